"""A model with packed layers becomes one of plain layers that hold what the codes mean."""

from __future__ import annotations

import torch
from torch import nn

from quant.errors import ModelError
from quant.layers.conv import QUANTIZED, QuantConv
from quant.layers.fused.part import Part
from quant.layers.layer import QuantLayer
from quant.layers.replace import quantized_layers, replace

#: What this library puts on a model that has packed layers, by the names of the methods whose places they take.
_METHODS = (
    "add_adapter", "load_lora_adapter", "load_adapter", "fuse_lora", "unfuse_lora", "fuse_qkv_projections",
    "enable_group_offload", "save_pretrained",
)  # fmt: skip


def dequantize_layers(model: nn.Module, dtype: torch.dtype) -> None:
    """Puts a plain layer in the place of each packed one, in place; nothing is changed where that is refused.

    Inputs are no longer quantized. A low-rank branch is added to the weight, and smoothing is undone.

    Args:
        model: not offloaded.
        dtype: of weights whose layer has no bias, whose dtype they get otherwise.

    Raises:
        ModelError: fused blocks, adapters, offloaded layers, or a convolution that does more than convolve.
    """
    layers = quantized_layers(model)
    for name, module in model.named_modules():
        if isinstance(module, Part):
            raise ModelError("fused blocks are not dequantized: load the model without fused=True")
        if "base_layer" in module._modules:
            raise ModelError(f"{name} has an adapter, which would keep its packed layer: unload_lora() first")
    for name, layer in layers.items():
        if any(tensor.is_meta for tensor in layer.parameters()):
            raise ModelError(f"{name} is offloaded: dequantize the model before that")
        if isinstance(layer, QuantConv) and type(layer) not in QUANTIZED.values():
            raise ModelError(f"{name} is a {type(layer).__name__}, which does something around its convolution")
    for name, layer in layers.items():
        replace(model, name, _plain(layer, dtype if layer.bias is None else layer.bias.dtype))
    for method in _METHODS:
        vars(model).pop(method, None)


def _plain(layer: QuantLayer, dtype: torch.dtype) -> nn.Module:
    held = layer.held()
    weight = layer.dequantized(held)
    if "low_rank_up" in held:
        weight = weight + held["low_rank_up"].float() @ held["low_rank_down"].float()
    n, k = layer.weight_size
    made: nn.Module
    if isinstance(layer, QuantConv):
        kind = next(plain for plain, ours in QUANTIZED.items() if isinstance(layer, ours))
        window = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        made = kind(layer.in_channels, layer.out_channels, *window, bias=False, device="meta")
        weight = layer.as_window(weight).contiguous()
    else:
        made = nn.Linear(k, n, bias=False, device="meta")
    made.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
    return made.train(layer.training)
