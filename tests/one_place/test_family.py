"""A model family that only this file knows decides which layers are kept and which share an input."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import quant
from quant.families import table
from quant.families.base import Family
from quant.layers.replace import quantized_layers


class Block(nn.Module):
    """Two layers that read one input, and one that must stay precise."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.gate = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = torch.sigmoid(self.gate(x)) * (self.left(x) + self.right(x))
        return out


class OfToys(nn.Module):
    """A stack of blocks, and a layer outside of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stack, self.head = nn.ModuleList(Block() for _ in range(2)), nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.stack:
            x = block(x)
        out: torch.Tensor = self.head(x)
        return out


TOYS = Family(
    name="toys",
    classes=("OfToys",),
    blocks=r"stack\.(\d+)\.",
    shared_inputs=(("left", "right"),),
    keep=((r"\.gate$", "decides what passes"),),
)


def test_a_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FAMILIES", (*table.FAMILIES, TOYS))
    torch.manual_seed(0)
    model, rows = OfToys(), torch.randn(64, 32) * torch.linspace(0.1, 10, 32)
    group = {"targets": ["Linear"], "scheme": "W8A8", "algorithm": {"name": "smoothquant", "alpha": 0.5}}
    recipe = quant.Recipe.from_dict({"version": 1, "groups": [group]})
    layers = quantized_layers(quant.quantize(model, recipe, forward_loop=lambda module: module(rows)))
    assert list(layers) == [f"stack.{i}.{name}" for i in range(2) for name in ("left", "right")]
    for i in range(2):
        left, right = (layers[f"stack.{i}.{name}"].pre_quant_scale for name in ("left", "right"))
        assert left is not None and right is not None
        assert torch.equal(left, right)  # one input has one factor
    assert table.family_of(model).name == "toys"
