"""Puts quantized layers into a model, and names the Linears in it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from quant.form import LayerForm
from quant.modules.linear import QuantLinear


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """Every `nn.Linear` of a model by name, quantized ones not among them; by each name where it has several."""
    named = model.named_modules(remove_duplicate=False)
    return {name: module for name, module in named if isinstance(module, nn.Linear)}


def quantized_layers(model: nn.Module) -> dict[str, QuantLinear]:
    """Every quantized layer of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantLinear)}


def prepack(model: nn.Module) -> None:
    """Puts each quantized weight into the order that its device's kernels read; after tensors were put in by hand."""
    for layer in quantized_layers(model).values():
        layer.prepack()


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts `module` in the place of the submodule `name`."""
    path, _, leaf = name.rpartition(".")
    parent = model.get_submodule(path)
    setattr(parent, leaf, module)
    call_layers(parent)


def call_layers(parent: nn.Module) -> None:
    """Has a `nn.TransformerEncoderLayer` call its quantized layers, whose weights its fast path would read instead."""
    if isinstance(parent, nn.TransformerEncoderLayer) and any(isinstance(c, QuantLinear) for c in parent.children()):
        parent.activation_relu_or_gelu = 0  # the first thing that the fast path asks for


def insert_empty_layers(model: nn.Module, layers: Mapping[str, LayerForm]) -> None:
    """Replaces Linears by empty quantized layers on the meta device: a skeleton that tensors are loaded into."""
    found = linears(model)
    for name, layer in layers.items():
        linear = found[name]
        replace(
            model,
            name,
            QuantLinear(
                linear.in_features,
                linear.out_features,
                layer,
                bias=linear.bias is not None,
                dtype=linear.weight.dtype,
                device=torch.device("meta"),
            ).train(linear.training),
        )
