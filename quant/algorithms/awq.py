"""AWQ (arXiv 2306.00978): scales up the weight's columns that meet large inputs, so that rounding harms them less.

As in SmoothQuant the input is multiplied by `pre_quant_scale` and the weight divided by it; here for the weight's
sake. Its strength is searched for each input on the error of the layers' outputs, which a Hessian gives exactly:
tr(D H D^T) with D the change of the weight. The factors are those of ModelOpt's `awq_lite`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from quant.algorithms.base import Algorithm, Check, Needs, Options, Rounded, Smoothing, Statistics, check_rounding
from quant.algorithms.input_hessian import InputHessian
from quant.algorithms.smoothquant import by_gptq, least, smoothed_by_gptq
from quant.formats.layer import LayerFormat
from quant.formats.scheme import Scheme, TensorFormat
from quant.formats.tensors import pack_linear, unpack_linear
from quant.recipe_parts import Group

ALPHAS = tuple(i / 10 for i in range(11))
_LIMIT = 1e4  # of a factor and its inverse, before they are centred


def awq_factors(channel_mean: torch.Tensor, importance: torch.Tensor, alpha: float) -> torch.Tensor:
    """`pre_quant_scale` for one strength.

    Args:
        channel_mean: [C], mean |x_j| over the calibration data.
        importance: [C], as `weight_importance`.
        alpha: 0 (by the weight alone) to 1 (by the input alone).

    Returns:
        float32 [C], positive; the largest and the smallest are each other's inverse.
    """
    tiny = torch.finfo(torch.float32).tiny
    scale = channel_mean.float().pow(alpha) / (importance.float().pow(1 - alpha) + tiny)
    scale = scale.clamp(1 / _LIMIT, _LIMIT)
    return (scale.max() * scale.min()).sqrt() / scale


def weight_importance(weights: Sequence[torch.Tensor], group_size: int) -> torch.Tensor:
    """[K]: how large a column is relative to the largest of its group, averaged over the rows of all layers.

    Args:
        weights: each [N_i, K], float.
        group_size: columns that share a scale; K for a scale a row.
    """
    rows = torch.cat([weight.float() for weight in weights])
    groups = rows.abs().reshape(len(rows), -1, group_size)
    tiny = torch.finfo(torch.float32).tiny
    return (groups / (groups.amax(dim=2, keepdim=True) + tiny)).reshape(rows.shape).mean(dim=0)


def search(
    weights: Sequence[torch.Tensor], schemes: Sequence[Scheme], channel_mean: torch.Tensor, hessian: torch.Tensor
) -> Smoothing:
    """Factors for the layers that read one input; none where none are best.

    Args:
        weights: each [N_i, K], of one K.
        schemes: one a weight; the first's groups decide what a column is compared with.
        channel_mean: [C], mean |x_j|; K is C, or C for each tap of a convolution.
        hessian: [K, K], sum x x^T in any unit.

    Returns:
        its errors are relative to the size of the output, with weights rounded to nearest and inputs as they are.

    Raises:
        ValueError: no error is finite.
    """
    tensor_format = schemes[0].weights
    assert tensor_format is not None
    importance = weight_importance(weights, tensor_format.group_size or weights[0].shape[1])
    importance = importance.reshape(-1, len(channel_mean)).mean(dim=0)
    inputs = InputHessian(hessian)
    power = sum(inputs.error(weight) for weight in weights) or 1.0

    def error(factor: torch.Tensor | None) -> float:
        total = 0.0
        for weight, scheme in zip(weights, schemes, strict=True):
            # Inputs are not quantized here, so a static scale has no part in it.
            layer_format = _weight_only(scheme)
            stored = unpack_linear(pack_linear(weight, layer_format, pre_quant_scale=factor), layer_format)
            total += inputs.error(stored - weight.float())
        return float((total / power) ** 0.5)

    without = error(None)
    found = {alpha: awq_factors(channel_mean, importance, alpha) for alpha in ALPHAS}
    errors = {alpha: error(factor) for alpha, factor in found.items()}
    best = least(errors)
    if errors[best] >= without:
        return Smoothing(None, 0.0, without, without)
    return Smoothing(found[best].cpu(), best, errors[best], without)


def _weight_only(scheme: Scheme) -> LayerFormat:
    return LayerFormat(Scheme(scheme.name, scheme.weights, None))


class Awq(Algorithm):
    """Factors by AWQ; with `rounding: gptq` the scaled weight is rounded under the scaled input."""

    name = "awq"
    options: ClassVar[Mapping[str, Check]] = {"rounding": check_rounding}
    smooths = True

    def needs(self, group: Group) -> Needs:
        return Needs(channel_mean=True, hessian=True)

    def refuses(self, group: Group) -> str | None:
        reason, sparse = super().refuses(group), group.sparsity is not None
        if reason is None and (group.scheme.same_numbers or sparse):
            what = "2:4 weights" if sparse else f"{group.scheme.name}; use smoothquant"
            reason = f"'{self.name}' is for packed weights in groups, not for {what}"
        return reason

    def smooth(
        self, weights: Sequence[torch.Tensor], schemes: Sequence[Scheme], seen: Statistics, options: Options
    ) -> Smoothing:
        assert seen.channel_mean is not None and seen.hessian is not None
        at = weights[0].device
        return search(weights, schemes, seen.channel_mean.to(at), seen.hessian.to(at))

    def rounds_smoothed(self, options: Options) -> bool:
        return by_gptq(options)

    def round_smoothed(
        self, weights: Sequence[torch.Tensor], tensor_format: TensorFormat, hessian: InputHessian, options: Options
    ) -> list[Rounded]:
        return smoothed_by_gptq(weights, tensor_format, hessian)
