"""A kind of layer that only this file knows is calibrated, saved, inspected and loaded."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import quant
from quant.formats.layer import LayerFormat
from quant.formats.tensors import unpack_linear
from quant.layers import kinds
from quant.layers.layer_kind import LayerKind
from quant.layers.replace import quantized_layers


class Transposed(nn.Module):
    """y = x @ weight + bias with a weight [K, N], as GPT-2's layers have it."""

    def __init__(self, k: int, n: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(k, n) / k**0.5)
        self.bias = nn.Parameter(torch.randn(n))

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given @ self.weight + self.bias


class TransposedKind(LayerKind):
    """How that is a matmul."""

    def holds(self, module: nn.Module) -> bool:
        return isinstance(module, Transposed)

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        k, n = shape
        return n, k

    def matrix(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.T

    def rows(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> torch.Tensor:
        given: torch.Tensor = args[0] if args else kwargs["given"]
        return given.reshape(-1, given.shape[-1])

    def own_way(self, model: nn.Module, name: str, module: nn.Module, readers: Mapping[int, str]) -> str:
        return ""


@pytest.mark.parametrize("algorithm", ["gptq", None])
def test_a_layer_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str | None) -> None:
    torch.manual_seed(0)
    model, rows = nn.Sequential(Transposed(96, 40), nn.GELU(), Transposed(40, 24)), torch.randn(64, 96)
    group = {"targets": ["Transposed"], "scheme": "W8A8", "algorithm": algorithm}
    recipe = quant.Recipe.from_dict({"version": 1, "groups": [group]})
    with pytest.raises(quant.QuantError, match="'Transposed' matches no layer"):
        quant.quantize(model, recipe, forward_loop=lambda module: module(rows))
    monkeypatch.setattr(kinds, "KINDS", (*kinds.KINDS, TransposedKind()))
    made = quant.quantize(model, recipe, forward_loop=lambda module: module(rows))
    quant.save(made, tmp_path / "out")
    (component,) = quant.inspect(tmp_path / "out").components
    assert {layer.name: layer.shape for layer in component.layers} == {"0": (40, 96), "2": (24, 40)}
    assert component.quant_method == "quant"  # another reader would take it for a Linear's
    loaded = quant.load(tmp_path / "out", into=copy.deepcopy(model))
    twin = copy.deepcopy(model)
    for name, layer in quantized_layers(loaded).items():
        tensors = {leaf: tensor for leaf, tensor in layer.state_dict().items() if leaf != "bias"}
        twin.get_submodule(name).weight.data = unpack_linear(tensors, LayerFormat(layer.scheme)).T
    with torch.no_grad():
        assert torch.equal(loaded(rows), made(rows))
        error = (loaded(rows) - twin(rows)).norm() / twin(rows).norm()
        assert error < 0.01  # inputs rounded to a 127th of a row's largest
        assert (twin(rows) - model(rows)).norm() / model(rows).norm() < 0.02
