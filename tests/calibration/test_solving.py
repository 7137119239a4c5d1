"""How Hessians are cut into passes over the calibration data, and that cutting changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import quant
from quant.algorithms.base import Statistics
from quant.algorithms.stages import compress
from quant.calibration import solving
from quant.calibration.layer_plan import Planned
from quant.layers.linear_kind import LinearKind
from tests.algorithms.test_stages import group


def test_several_passes_find_what_one_finds() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 32), nn.GELU(), nn.Linear(32, 8))
    batch = torch.randn(50, 64)
    recipe = quant.Recipe.from_dict(
        {
            "version": 1,
            "groups": [
                {
                    "targets": ["Linear"],
                    "scheme": {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}},
                    "algorithm": "gptq",
                }
            ],
        }
    )
    one = quant.quantize(model, recipe, forward_loop=lambda m: m(batch))
    small = replace(recipe, calibration=replace(recipe.calibration, hessian_gb=1e-6))
    calls: list[int] = []
    several = quant.quantize(model, small, forward_loop=lambda m: calls.append(len(m(batch))))
    assert calls == [50, 50, 50]
    state = several.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


def test_a_smoothed_model_is_rounded_under_the_inputs_that_it_meets() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32))
    scale = torch.logspace(-2, 1, 64)
    batch = torch.randn(400, 8) @ torch.randn(8, 64) * scale + 0.1 * torch.randn(400, 64) * scale

    def error(**algorithm: object) -> float:
        group = {
            "targets": ["Linear"],
            "scheme": "W8A8",
            "algorithm": {"name": "smoothquant", "alpha": 0.5, **algorithm},
        }
        made = quant.quantize(model, quant.Recipe.from_dict({"version": 1, "groups": [group]}), forward_loop=run)
        assert made[0].pre_quant_scale is not None
        return float((made(batch) - model(batch)).square().sum())

    def run(given: nn.Module) -> None:
        given(batch)

    with torch.no_grad():
        assert error(rounding="gptq") < 0.9 * error(rounding="nearest")


def test_compressed_inputs_need_recorded_calls() -> None:
    model, group = nn.Sequential(nn.Linear(8, 8)), {"targets": ["Linear"], "scheme": "FP8"}
    body = {"version": 1, "groups": [group], "calibration": {"inputs": "compressed"}}
    recipe = quant.Recipe.from_dict(body)
    with pytest.raises(quant.QuantError, match=r"calibration.inputs: compressed takes recorded calls block by block"):
        quant.quantize(model, recipe, forward_loop=lambda m: m(torch.ones(1, 8)))


def test_layers_of_one_input_are_solved_each_by_its_own_group() -> None:
    """Among others that are rounded to nearest, or by another algorithm."""
    four, eight = group(scheme="W4A16", algorithm="gptq"), group(scheme="W8A8", algorithm="gptq")
    nearest = group(scheme="W8A8")
    groups = {"q": four, "skip": nearest, "k": eight, "v": four}
    torch.manual_seed(0)
    layers = {name: nn.Linear(128, 8 + 4 * i) for i, name in enumerate(groups)}
    x = torch.randn(300, 128).double()
    members = [
        ("model", Planned(name, "Linear", (layers[name].out_features, 128), of, "x", LinearKind(), of))
        for name, of in groups.items()
    ]
    solutions = solving._solve_group({"model": nn.ModuleDict(layers)}, members, Statistics(hessian=x.T @ x / 300))
    for (name, of), solution in zip(groups.items(), solutions, strict=True):
        if of is nearest:
            assert solution.weight is None and solution.grid is None
            continue
        expected = compress(layers[name].weight.detach(), of, x.T @ x)
        assert isinstance(solution.weight, torch.Tensor) and solution.grid is not None
        torch.testing.assert_close(solution.weight, expected.weight)
        assert solution.grid.format == of.scheme.weights
        assert solution.notes["output_error"] == pytest.approx(expected.notes["output_error"], rel=1e-4)
