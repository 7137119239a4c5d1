"""Puts quantized layers into a model, and names the Linears in it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from quant.form import LayerForm
from quant.modules.linear import QuantLinear


def linears(model: nn.Module) -> dict[str, nn.Linear]:
    """Every `nn.Linear` of a model by name, quantized ones not among them."""
    return {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def quantized_layers(model: nn.Module) -> dict[str, QuantLinear]:
    """Every quantized layer of a model by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, QuantLinear)}


def prepack(model: nn.Module) -> None:
    """Puts each quantized weight into the order that its device's kernels read; after tensors were put in by hand."""
    for layer in quantized_layers(model).values():
        layer.prepack()


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts `module` in the place of the submodule `name`."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)


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
