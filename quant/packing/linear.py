"""One Linear as the tensors of a checkpoint, and back."""

from __future__ import annotations

import torch

from quant.packing.eight_bit import encode, storage_dtype, unpack_weight, weight_scale
from quant.scheme import Scheme


def linear_scales(
    weight: torch.Tensor,
    scheme: Scheme,
    *,
    input_scale: torch.Tensor | None = None,
    pre_quant_scale: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """The small tensors of a layer: everything a checkpoint stores but the codes and the bias.

    Args:
        weight: [N, K], float.
        scheme: the layer's scheme.
        input_scale: float32 [1], for a scheme with a static input.
        pre_quant_scale: float32 [K]. The input is multiplied by it when the layer runs, so the weight is
            divided by it before rounding.

    Returns:
        `weight_scale`, and `input_scale` and `pre_quant_scale` where given.

    Raises:
        ValueError: `input_scale` missing for a static scheme, or given for a dynamic one.
    """
    if scheme.has_static_input != (input_scale is not None):
        need = "needs" if scheme.has_static_input else "takes no"
        raise ValueError(f"scheme {scheme.name} {need} input_scale")
    scales = {"weight_scale": weight_scale(_divided(weight, pre_quant_scale), scheme.weights)}
    if input_scale is not None:
        scales["input_scale"] = input_scale.float().reshape(1)
    if pre_quant_scale is not None:
        scales["pre_quant_scale"] = pre_quant_scale.float()
    return scales


def linear_codes(weight: torch.Tensor, scheme: Scheme, scales: dict[str, torch.Tensor]) -> torch.Tensor:
    """The codes [N, K], int8 or float8_e4m3fn, of a weight [N, K] under the scales of `linear_scales`."""
    values = _divided(weight, scales.get("pre_quant_scale"))
    return encode(values, scales["weight_scale"], storage_dtype(scheme.weights))


def pack_linear(
    weight: torch.Tensor,
    scheme: Scheme,
    *,
    input_scale: torch.Tensor | None = None,
    pre_quant_scale: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """All tensors of a layer by their names in a checkpoint: `linear_scales` and `weight`, the codes."""
    scales = linear_scales(weight, scheme, input_scale=input_scale, pre_quant_scale=pre_quant_scale)
    return {"weight": linear_codes(weight, scheme, scales), **scales}


def _divided(weight: torch.Tensor, pre_quant_scale: torch.Tensor | None) -> torch.Tensor:
    return weight.float() if pre_quant_scale is None else weight.float() / pre_quant_scale


def unpack_linear(tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The float32 weight [N, K] in the original input's basis: codes * scale * pre_quant_scale."""
    weight = unpack_weight(tensors["weight"], tensors["weight_scale"])
    smoothing = tensors.get("pre_quant_scale")
    return weight if smoothing is None else weight * smoothing


def tensor_layout(
    scheme: Scheme, out_features: int, in_features: int, *, smoothed: bool
) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Names, dtypes and shapes of what `pack_linear` returns, known before any weight is read."""
    codes = storage_dtype(scheme.weights)
    per_channel = scheme.weights.strategy == "channel"
    layout: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        "weight": (codes, (out_features, in_features)),
        "weight_scale": (torch.float32, (out_features, 1) if per_channel else (1,)),
    }
    if scheme.has_static_input:
        layout["input_scale"] = (torch.float32, (1,))
    if smoothed:
        layout["pre_quant_scale"] = (torch.float32, (in_features,))
    return layout


def relative_error(weight: torch.Tensor, tensors: dict[str, torch.Tensor]) -> float:
    """||W - W_stored|| / ||W|| in the Frobenius norm; 0 for an all-zero weight."""
    reference = weight.float()
    norm = reference.norm().item()
    return 0.0 if norm == 0 else (unpack_linear(tensors) - reference).norm().item() / norm
