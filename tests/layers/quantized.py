"""A Linear as a quantized layer, from tensors that `pack_linear` made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from quant.formats.layer import LayerFormat
from quant.layers.linear import QuantLinear


def quantized(
    linear: nn.Linear,
    layer_format: LayerFormat,
    tensors: Mapping[str, torch.Tensor],
    device: torch.device | str = "cpu",
    cls: type[QuantLinear] = QuantLinear,
) -> QuantLinear:
    """The layer that takes the place of `linear`; smoothing and the branch are those of the tensors."""
    rank = len(tensors["low_rank_down"]) if "low_rank_down" in tensors else 0
    layer_format = replace(layer_format, smoothed="pre_quant_scale" in tensors, rank=rank)
    n, k = linear.weight.shape
    made = cls(k, n, layer_format, bias=linear.bias is not None, dtype=linear.weight.dtype, device="meta")
    return made.fill(tensors, linear.bias, torch.device(device))
