"""SmoothQuant (arXiv 2211.10438): moves the input's outlier channels into the weight, exactly.

x W^T = (x * p) (W / p)^T for any positive p [K]. SmoothQuant's choice is p = 1 / s with
s_j = max|x_j|^alpha / max|W_j|^(1 - alpha). Layers that read one input share p, so max|W_j| runs over all of them.
A fixed alpha can hurt, so it is searched per input, "no smoothing" included, on the layers' output error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from quant.algorithms.base import Algorithm, Check, Needs, Options, Rounded, Smoothing, Statistics, check_rounding
from quant.algorithms.gptq import factor_for, on_best_grids
from quant.algorithms.input_hessian import InputHessian
from quant.errors import RecipeError
from quant.fields import is_number
from quant.formats.eight_bit import encode, scale_from_amax, storage_dtype
from quant.formats.layer import LayerFormat
from quant.formats.scheme import Scheme, TensorFormat
from quant.formats.table import format_of
from quant.formats.tensors import by_column, pack_linear
from quant.kernels.numerics import exponent_of
from quant.recipe_parts import Group
from quant.text import shown

# 0 stands for no smoothing at all, the candidate that makes the search safe.
ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
_SMALLEST = 1e-5  # an input channel that is always zero carries nothing; keep its factor finite


def check_alpha(alpha: object, where: str) -> None:
    """Raises RecipeError unless alpha is "search" or a number above 0 (which would smooth nothing) up to 1."""
    if alpha == "search":
        return
    if not is_number(alpha) or not 0 < alpha <= 1:
        raise RecipeError(f"{where}: must be 'search' or a number above 0, up to 1, got {shown(alpha)}")


def smoothing_factors(input_amax: torch.Tensor, weight_amax: torch.Tensor, alpha: float) -> torch.Tensor:
    """The `pre_quant_scale` of SmoothQuant's equation 4, inverted: the input is multiplied by it.

    Args:
        input_amax: [K], max|x_j| over the calibration data.
        weight_amax: [K], max|W_j| over all layers that read this input.
        alpha: in (0, 1].

    Returns:
        float32 [K], positive and finite.
    """
    x = input_amax.float().clamp(min=_SMALLEST)
    w = weight_amax.float().clamp(min=_SMALLEST)
    return (w.pow(1 - alpha) / x.pow(alpha)).clamp(min=_SMALLEST, max=1 / _SMALLEST)


def least(errors: Mapping[float, float]) -> float:
    """The strength of least error; one that takes a weight out of float32 has none that is finite. The first of equals.

    Raises:
        ValueError: no error is finite.
    """
    finite = {strength: error for strength, error in errors.items() if math.isfinite(error)}
    if not finite:
        raise ValueError("no strength of smoothing has an error that is finite: inputs or weights are too large")
    return min(finite, key=lambda strength: finite[strength])


def smooth(
    weights: Sequence[torch.Tensor],
    schemes: Sequence[Scheme],
    rows: torch.Tensor,
    channel_amax: torch.Tensor,
    alpha: float | str,
    one_scale: bool = False,
) -> Smoothing:
    """Factors for the layers that read one input.

    Args:
        weights: each [N_i, K], of one K.
        schemes: one a weight.
        rows: [R, K], a sample of the input.
        channel_amax: [C], over all of the input, so that static ranges cover what the sample missed; K is C, or C for
            each tap of a convolution, which has one factor a channel.
        alpha: a fixed strength, or "search" for the one with the least summed squared output error.

        one_scale: as of `Statistics`.

    Raises:
        ValueError: no error is finite.
    """
    values = [weight.float() for weight in weights]
    # Factors depend on the size of the inputs, errors do not: their squares would leave float32 where inputs are large.
    exponent = exponent_of(channel_amax)
    inputs, reach = torch.ldexp(rows.float(), -exponent), torch.ldexp(channel_amax.float(), -exponent)
    exact = [inputs @ weight.T for weight in values]
    power = sum(output.double().square().sum().item() for output in exact) or 1.0
    weight_amax = torch.stack([weight.abs().amax(dim=0) for weight in values]).amax(dim=0)
    weight_amax = weight_amax.reshape(-1, len(channel_amax)).amax(dim=0)

    def factors(strength: float) -> torch.Tensor | None:
        return smoothing_factors(channel_amax, weight_amax, strength) if strength else None

    def error(scale: torch.Tensor | None) -> float:
        total = sum(
            (_simulate(inputs, weight, scheme, scale, reach, one_scale) - output).double().square().sum().item()
            for weight, scheme, output in zip(values, schemes, exact, strict=True)
        )
        return float((total / power) ** 0.5)

    without = error(None)
    candidates = ALPHAS if alpha == "search" else (float(alpha),)
    errors = {strength: error(factors(strength)) if strength else without for strength in candidates}
    best = least(errors)
    return Smoothing(factors(best), best, errors[best], without)


def _simulate(
    inputs: torch.Tensor,
    weight: torch.Tensor,
    scheme: Scheme,
    scale: torch.Tensor | None,
    channel_amax: torch.Tensor,
    one_scale: bool,
) -> torch.Tensor:
    """The layer's output [R, N] with input and weight rounded as they will be, in float32."""
    scaled = inputs if scale is None else inputs * by_column(scale, inputs.shape[1])
    reach = channel_amax.float() if scale is None else channel_amax.float() * scale
    assert scheme.input_activations is not None
    dtype = storage_dtype(scheme.input_activations)
    largest = scale_from_amax(reach.amax().reshape(1), dtype)
    static = largest if scheme.has_static_input else None
    fixed = scheme.has_static_input or one_scale
    step = largest if fixed else scale_from_amax(scaled.abs().amax(dim=1, keepdim=True), dtype)
    codes = encode(scaled, step, dtype).float()
    layer_format = LayerFormat(scheme)
    tensors = pack_linear(weight, layer_format, input_scale=static, pre_quant_scale=scale)
    return (codes * step) @ format_of(layer_format).decode(tensors).T


class SmoothQuant(Algorithm):
    """Factors by SmoothQuant; with `rounding: gptq` the smoothed weight is rounded under the smoothed input."""

    name = "smoothquant"
    options: ClassVar[Mapping[str, Check]] = {
        "alpha": lambda value, where: check_alpha(value, where.removesuffix(".alpha")),
        "rounding": check_rounding,
    }
    smooths = True

    def needs(self, group: Group) -> Needs:
        options = () if group.algorithm is None else group.algorithm.options
        return Needs(channel_amax=True, rows=True, hessian=by_gptq(dict(options)))

    def refuses(self, group: Group) -> str | None:
        scheme, sparse = group.scheme, group.sparsity is not None
        reason = super().refuses(group)
        if reason is None and (scheme.input_activations is None or sparse):
            what = "2:4 weights" if sparse else f"{scheme.name}, whose inputs are not quantized"
            reason = f"'{self.name}' makes inputs easier to quantize; it is not for {what}"
        if reason is None and not _one_scale_a_row(scheme):
            reason = f"'{self.name}' is for a scale a row or tensor, not for {scheme.name}"
        return reason

    def smooth(
        self, weights: Sequence[torch.Tensor], schemes: Sequence[Scheme], seen: Statistics, options: Options
    ) -> Smoothing:
        assert seen.rows is not None and seen.channel_amax is not None
        alpha = options.get("alpha", "search")
        on_cpu = [weight.cpu() for weight in weights]
        return smooth(on_cpu, schemes, seen.rows, seen.channel_amax, alpha, seen.one_scale)

    def rounds_smoothed(self, options: Options) -> bool:
        return by_gptq(options)

    def round_smoothed(
        self, weights: Sequence[torch.Tensor], tensor_format: TensorFormat, hessian: InputHessian, options: Options
    ) -> list[Rounded]:
        return smoothed_by_gptq(weights, tensor_format, hessian)


def by_gptq(options: Options) -> bool:
    """Is a smoothed weight rounded by GPTQ, and not to nearest?"""
    return bool(options.get("rounding") == "gptq")


def smoothed_by_gptq(
    weights: Sequence[torch.Tensor], tensor_format: TensorFormat, hessian: InputHessian
) -> list[Rounded]:
    """`Algorithm.round_smoothed` of what has the option `rounding`: under the Hessian of the smoothed input."""
    made = on_best_grids(weights, tensor_format, hessian, [None] * len(weights), {})
    return [Rounded(found, grid, notes=factor_for(hessian, {}).notes) for grid, found in made]


def _one_scale_a_row(scheme: Scheme) -> bool:
    """Is nothing unpacked, and is there one scale a row or tensor, which factors of columns do not touch?"""
    return scheme.same_numbers and scheme.weights is not None and scheme.weights.strategy in ("channel", "tensor")
