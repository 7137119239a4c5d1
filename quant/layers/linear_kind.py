"""`nn.Linear` as a layer to be quantized, and what one that is more than weight and bias would lose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from quant.layers.layer_kind import LayerKind
from quant.layers.own_way import own_way


class LinearKind(LayerKind):
    """`nn.Linear`, and subclasses that do nothing else."""

    classes = ("Linear",)
    standard = True
    by_rows = True

    def holds(self, module: nn.Module) -> bool:
        return isinstance(module, nn.Linear)

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        n, k = shape
        return n, k

    def matrix(self, weight: torch.Tensor) -> torch.Tensor:
        return weight

    def rows(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
        given: torch.Tensor = args[0] if args else kwargs["input"]
        return given.reshape(-1, given.shape[-1])

    def own_way(self, model: nn.Module, name: str, module: nn.Module, readers: Mapping[int, str]) -> str:
        parent, kind = model.get_submodule(name.rpartition(".")[0]), type(module)
        if isinstance(parent, nn.MultiheadAttention) or isinstance(module, NonDynamicallyQuantizableLinear):
            return "its weight is read by nn.MultiheadAttention"
        known = kind.forward is nn.Linear.forward and kind.__call__ is nn.Linear.__call__
        return own_way(module, known, readers)
