"""Inputs that no algorithm was made for are solved, or refused with the layer's name: nothing else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import quant
from quant.errors import CalibrationError
from quant.recipe import Recipe

K, N = 64, 16
GROUPS = {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}}
RECIPES: dict[str, dict[str, Any]] = {
    "gptq": {"scheme": GROUPS, "algorithm": {"name": "gptq", "clip": True, "refine": True}},
    "barely damped": {"scheme": GROUPS, "algorithm": {"name": "gptq", "damping": 1e-12}},
    "svdquant": {"scheme": GROUPS, "algorithm": {"name": "svdquant", "rank": 2}},
    "awq": {"scheme": GROUPS, "algorithm": "awq"},
    "mse": {"scheme": GROUPS, "algorithm": "mse"},
    "smoothquant": {"scheme": "W8A8", "algorithm": {"name": "smoothquant", "rounding": "gptq"}},
    "static mse": {"scheme": "FP8", "algorithm": "mse"},
    "wanda": {"scheme": "W8A8", "sparsity": {"structure": "2:4", "method": "wanda"}},
    "sparsegpt": {"scheme": "W8A8", "sparsity": {"structure": "2:4", "method": "sparsegpt"}},
    "search": {"scheme": "W8A8", "sparsity": {"structure": "2:4", "method": "search"}},
}


def _inputs(kind: str) -> torch.Tensor:
    x = torch.randn(64, K, generator=torch.Generator().manual_seed(3))
    match kind:
        case "zeros":
            return x * 0
        case "zero columns":
            return x * (torch.arange(K) % 3 > 0)
        case "one direction":
            return x[:1] * x[:, :1]
        case "one row":
            return x[:1]
        case "all sizes":
            return x * torch.logspace(-30, 30, K)
        case size:
            return x * float(size)


@pytest.mark.parametrize(
    "kind", ["zeros", "zero columns", "one direction", "one row", "all sizes", "1e-43", "1e-25", "1e19", "3e37"]
)
def test_every_algorithm_solves_it(kind: str) -> None:
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(K, N)).eval(), _inputs(kind)
    for name, group in RECIPES.items():
        recipe = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], **group}]})
        made = quant.quantize(model, recipe, forward_loop=lambda given: given(x))
        record = made.quant_record.layers[0]
        worst = 0.8 if "sparsity" in group else 0.4
        assert 0 <= record["weight_error"] < 2, name  # a weight moves far where no input sees it
        assert all(torch.isfinite(each.float()).all() for each in made.state_dict().values()), name
        if "output_error" in record:
            assert 0 <= record["output_error"] < worst, name


def test_what_cannot_be_solved_is_named_with_its_layer() -> None:
    model = nn.Sequential(nn.Linear(K, N)).eval()
    with torch.no_grad():
        next(model.parameters())[0, 0] = 3e38
    recipe = Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], **RECIPES["smoothquant"]}]})
    with pytest.raises(CalibrationError, match=r"^layer 'model\.0': cannot be solved: "):
        quant.quantize(model, recipe, forward_loop=lambda given: given(torch.full((4, K), 3e38)))
