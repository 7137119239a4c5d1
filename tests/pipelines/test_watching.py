"""What is measured of a layer on its own, against a denoiser whose errors are known."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from quant.layers.replace import replaced
from quant.pipelines.watching import Errors, Steps, evenly, watching


class Denoiser(nn.Module):
    """Adds what its two layers say: an error of one is an error of the prediction."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.second = nn.Identity()

    def forward(self, sample: torch.Tensor, timestep: Any, gain: float = 1.0) -> tuple[torch.Tensor]:
        return (gain * (self.first(sample) + self.second(sample)),)


class Plus(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.value


@given(st.integers(1, 200), st.integers(1, 200))
def test_steps_are_spread_from_the_first_to_the_last(steps: int, count: int) -> None:
    chosen = sorted(evenly(steps, count))
    assert len(chosen) == min(steps, count)
    assert chosen[0] >= 0 and chosen[-1] < steps
    if count > 1:
        assert (chosen[0], chosen[-1]) == (0, steps - 1)
        gaps = [after - before for before, after in itertools.pairwise(chosen)]
        assert not gaps or max(gaps) - min(gaps) <= 1


def test_calls_of_one_timestep_are_one_step_and_prompts_start_anew() -> None:
    steps = Steps(frozenset({0, 2}))
    assert [steps.at(t) for t in (900.0, 900.0, 500.0, 100.0, 100.0)] == [0, 0, None, 2, 2]
    steps.new_prompt()
    # The last timestep of one prompt may be the first of the next.
    assert [steps.at(t) for t in (100.0, 100.0, 50.0)] == [0, 0, None]
    assert steps.begun == 3
    assert steps.timesteps == {0: 100.0, 2: 100.0}


def test_errors_are_those_of_the_layer_alone_and_the_prediction_is_the_originals() -> None:
    model = Denoiser().eval()
    sample = torch.full((4, 5), 2.0)
    found: dict[str, dict[int, Errors]] = {}
    calls: list[None] = []
    units = {
        "first": {"first": Plus(0.4)},
        "second": {"second": Plus(0.1)},
        "both": {"first": Plus(0.4), "second": Plus(0.1)},
    }
    steps = Steps(frozenset({0, 1}))
    with watching(model, units, steps, found, lambda: calls.append(None)):
        assert torch.equal(model(sample, 9)[0], torch.full((4, 5), 4.0))
        model(sample=sample, timestep=torch.tensor([9.0, 9.0]))  # as diffusers calls it
        model(sample, 5, gain=3.0)
        model(sample, 1)  # step 2 is not measured
    assert len(calls) == 3 * 3
    # ||e' - e|| / ||e||: 0.4 / 4 and so on, whatever the gain
    for unit, error in {"first": 0.1, "second": 0.025, "both": 0.125}.items():
        assert found[unit].keys() == {0, 1}
        for sums in found[unit].values():
            assert sums.relative == pytest.approx(error, rel=1e-5)
    assert found["first"][0].error == pytest.approx(2 * 20 * 0.4**2)
    assert found["first"][1].power == pytest.approx(20 * 12.0**2)
    assert not model._forward_hooks
    assert isinstance(model.first, nn.Identity)


def test_the_model_is_whole_again_after_an_error() -> None:
    model = Denoiser()
    before = dict(model.named_modules())
    with pytest.raises(TypeError, match="positional"), replaced(model, {"first": Plus(1.0)}):
        model()
    assert dict(model.named_modules()) == before


def test_no_power_is_no_error() -> None:
    assert Errors(0.0, 0.0).relative == 0.0
