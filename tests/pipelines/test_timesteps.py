"""Which part of a schedule a call belongs to, and what its inputs then count in a Hessian."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import quant
from quant.algorithms.base import Needs
from quant.calibration.journal import Journal
from quant.calibration.statistics import collect
from quant.errors import CalibrationError
from quant.pipelines.timesteps import TimestepWeights, timestep_of


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, sample: torch.Tensor, timestep: Any) -> torch.Tensor:
        out: torch.Tensor = self.layer(sample)
        return out


@pytest.mark.parametrize("scale", [1000.0, 1.0])
def test_parts_are_of_equal_length_in_timesteps(scale: float) -> None:
    weights = TimestepWeights([1.0, 2.0, 3.0])
    shares = [1.0, 0.9, 0.7, 0.6, 0.4, 0.3, 0.01, 0.0]
    assert [weights.at(share * scale) for share in shares] == [1, 1, 1, 2, 2, 3, 3, 3]


def test_one_weight_is_for_all_and_a_schedule_of_zeros_is_its_first_part() -> None:
    assert {TimestepWeights([5.0]).at(t) for t in (1000.0, 500.0, 0.0)} == {5.0}
    assert TimestepWeights([5.0, 6.0]).at(0.0) == 5.0


def test_a_timestep_is_read_however_it_is_given() -> None:
    read = timestep_of(Denoiser())
    assert read is not None
    assert read((torch.ones(1), torch.tensor([7.0, 7.0])), {}) == 7.0
    assert read((), {"sample": torch.ones(1), "timestep": 3}) == 3.0
    assert read((), {"sample": torch.ones(1), "timestep": torch.tensor([[0, 7, 7]])}) == 7.0  # of a first picture, 0
    assert timestep_of(nn.Linear(2, 2)) is None


def test_rows_count_what_the_recipe_says(tmp_path: Path) -> None:
    holder = nn.ModuleDict({"transformer": Denoiser()})
    model = holder["transformer"]
    noisy, clean = torch.randn(5, 3), torch.randn(7, 3)
    needs = {"transformer.layer": Needs(hessian=True)}

    def run() -> None:
        model(noisy, 1000)
        model(clean, torch.tensor([10.0]))

    found = collect(holder, needs, run, rows=1, seed=0, timestep_weights=(1.0, 3.0))["transformer.layer"].hessian
    assert found is not None
    expected = (noisy.T @ noisy + 3 * clean.T @ clean).double() / (5 + 3 * 7)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert not model._forward_pre_hooks

    def killed() -> None:
        model(noisy, 1000)
        started.prompt_done(1)
        raise KeyboardInterrupt

    started = Journal(tmp_path / "journal", "key", seconds=0)
    with pytest.raises(KeyboardInterrupt):
        collect(holder, needs, killed, rows=1, seed=0, journal=started, timestep_weights=(1.0, 3.0))

    def rest() -> None:
        model(torch.zeros(0, 3), 1000)
        model(clean, 10)

    journal = Journal(tmp_path / "journal", "key")
    again = collect(holder, needs, rest, rows=1, seed=0, journal=journal, timestep_weights=(1.0, 3.0))
    torch.testing.assert_close(again["transformer.layer"].hessian, found)


def test_ranges_are_by_the_timestep_of_the_call_also_after_a_kill(tmp_path: Path) -> None:
    holder = nn.ModuleDict({"transformer": Denoiser()})
    model, name = holder["transformer"], "transformer.layer"
    needs = {name: Needs(amax=True, amax_by_timestep=True)}

    def first() -> None:
        model(torch.full((5, 3), -2.0), torch.tensor([900.0, 900.0]))
        model(torch.full((5, 3), 3.0), timestep=10)

    def killed() -> None:
        first()
        started.prompt_done(1)
        raise KeyboardInterrupt

    def rest() -> None:
        model(torch.full((2, 3), 7.0), 900)

    def both() -> None:
        first()
        rest()

    whole = collect(holder, needs, both, rows=1, seed=0)[name].amax_by_timestep
    started = Journal(tmp_path / "journal", "key", seconds=0)
    with pytest.raises(KeyboardInterrupt):
        collect(holder, needs, killed, rows=1, seed=0, journal=started)
    again = collect(holder, needs, rest, rows=1, seed=0, journal=Journal(tmp_path / "journal", "key"))
    for found in (whole, again[name].amax_by_timestep):
        assert found is not None
        assert (found.timesteps.tolist(), found.amax.tolist(), found.rows.tolist()) == (
            [10.0, 900.0],
            [3.0, 7.0],
            [5, 7],
        )
    assert not model._forward_pre_hooks
    with pytest.raises(CalibrationError, match=r"'transformer.layer' was run before its denoiser was called"):
        collect(holder, needs, lambda: model.get_submodule("layer")(torch.ones(1, 3)), rows=1, seed=0)


def test_a_model_without_timesteps_is_refused_by_its_class() -> None:
    recipe = quant.Recipe.from_dict(
        {
            "version": 1,
            "groups": [{"targets": ["Linear"], "scheme": "W8A8", "algorithm": "gptq"}],
            "calibration": {"timestep_weights": [1, 2]},
        }
    )
    with pytest.raises(CalibrationError, match=r"timestep_weights: Sequential is not called with a 'timestep'"):
        quant.quantize(nn.Sequential(nn.Linear(4, 4)), recipe, forward_loop=lambda m: m(torch.ones(2, 4)))


@pytest.mark.parametrize("wrong", [[0, 0], [-1], ["a"], 3, [True], [float("inf")]])
def test_weights_that_are_none_are_refused(wrong: object) -> None:
    body = {"version": 1, "groups": [{"targets": ["Linear"], "scheme": "W8A8"}]}
    says = ", got 3" if wrong == 3 else " of at least 0, not all 0"
    with pytest.raises(quant.QuantError, match=f"timestep_weights: must be a list of numbers{says}"):
        quant.Recipe.from_dict({**body, "calibration": {"timestep_weights": wrong}})


def test_weights_are_part_of_a_recipe_and_of_its_hash() -> None:
    body = {"version": 1, "groups": [{"targets": ["Linear"], "scheme": "W8A8", "algorithm": "gptq"}]}
    plain = quant.Recipe.from_dict(body)
    weighted = quant.Recipe.from_dict({**body, "calibration": {"timestep_weights": [1, 2.5]}})
    assert weighted.calibration.timestep_weights == (1.0, 2.5)
    assert quant.Recipe.from_dict(weighted.to_dict()) == weighted
    assert weighted.sha256 != plain.sha256
