"""How Hessians are cut into passes over the calibration data, and that cutting changes nothing."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import quant
from quant.algorithms.base import Needs
from quant.calibration.solving import windows

HESSIAN = Needs(hessian=True)


@given(st.lists(st.integers(1, 4000), min_size=1, max_size=12), st.floats(0.001, 1.0))
def test_a_pass_holds_what_fits_or_one_input(widths: list[int], budget: float) -> None:
    sizes = {str(i): width for i, width in enumerate(widths)}
    parts = windows(dict.fromkeys(sizes, HESSIAN), sizes, budget)
    assert [name for part in parts for name in part] == list(sizes)
    for part, after in zip(parts, [*parts[1:], []], strict=True):
        used = sum(sizes[name] ** 2 * 16 / 1e9 for name in part)
        assert len(part) == 1 or used <= budget * (1 + 1e-9)
        assert not after or used + sizes[after[0]] ** 2 * 16 / 1e9 > budget * (1 - 1e-9)


def test_inputs_without_a_hessian_need_no_pass_of_their_own() -> None:
    needs = {"a": HESSIAN, "b": Needs(amax=True), "c": HESSIAN, "d": Needs()}
    assert windows(needs, dict.fromkeys(needs, 1000), 0.016) == [["a", "b"], ["c", "d"]]
    assert windows({"a": Needs(), "b": Needs(amax=True)}, {"a": 10**6, "b": 10**6}, 0.001) == [["a", "b"]]


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
