"""Which timesteps are the first and last shares of a schedule, falling or rising, long or of a distilled model."""

from __future__ import annotations

from pathlib import Path

import pytest

import quant
from quant.calibration.calls import Calls, Place
from quant.calibration.schedule import precise_steps, schedule_of_calls, timesteps_of
from quant.errors import CalibrationError
from quant.formats.steps import PreciseSteps
from quant.recipe_parts import StepShares

FALLING = [1000.0 - 20 * i for i in range(50)]
NAN = float("nan")


def chosen(first: float, last: float, schedule: list[float]) -> tuple[list[int], PreciseSteps]:
    """The numbers of the steps whose timesteps are precise, and what was found."""
    found = precise_steps(StepShares(first, last), list(schedule), "r: groups[0].steps")
    return [i for i, timestep in enumerate(schedule) if found.holds(timestep)], found


@pytest.mark.parametrize("schedule", [FALLING, [1 - t / 1000 for t in FALLING], [-t for t in FALLING]])
def test_shares_are_the_first_and_last_steps_whichever_way_timesteps_go(schedule: list[float]) -> None:
    numbers, found = chosen(0.1, 0.04, schedule)
    assert numbers == [0, 1, 2, 3, 4, 48, 49]
    assert (found.first, found.last, found.of) == (5, 2, 50)


@pytest.mark.parametrize(
    ("first", "last", "numbers"),
    [(0.1, 0.1, [0, 3]), (0.25, 0, [0]), (0.3, 0, [0]), (0.4, 0, [0, 1]), (0, 0.01, [3]), (0.5, 0.25, [0, 1, 3])],
)
def test_of_four_steps_a_share_above_nothing_is_one_step_at_least(
    first: float, last: float, numbers: list[int]
) -> None:
    assert chosen(first, last, [1000.0, 937.5, 833.3, 625.0])[0] == numbers


def test_a_schedule_that_is_run_for_each_part_of_a_clip_is_one() -> None:
    numbers, found = chosen(0.25, 0, [1000.0, 800.0, 500.0, 200.0] * 3)
    assert numbers == [0, 4, 8] and found.of == 4


def test_edges_are_between_steps_also_where_float32_has_nothing_between() -> None:
    close = [1.0, 1.0 - 2**-24, 1.0 - 2**-23]
    assert chosen(0.3, 0.3, close)[0] == [0, 2]


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ([900.0], "are all of the 1 steps that are run, and nothing would be quantized"),
        ([900.0, 100.0], "are all of the 2 steps that are run"),
        ([900.0, 900.0, 100.0, 50.0], "neither fall nor rise"),
        ([900.0, 100.0, 500.0, 50.0, 20.0], "neither fall nor rise"),
        ([900.0, None, 100.0, 50.0], "neither fall nor rise"),
        ([], "neither fall nor rise"),
    ],
)
def test_what_has_no_ends_or_nothing_between_them_is_refused(schedule: list[float | None], says: str) -> None:
    with pytest.raises(CalibrationError, match=rf"^r: groups\[0\]\.steps: .*{says}"):
        precise_steps(StepShares(0.1, 0.1), schedule, "r: groups[0].steps")


def test_a_step_of_several_calls_is_one_and_experts_share_a_schedule() -> None:
    places = [
        Place("transformer", 0, 0, 0, 999.0),
        Place("transformer", 0, 0, 1, 999.0),
        Place("transformer_2", 0, 1, 0, 400.0),
        Place("transformer_2", 0, 2, 0, NAN),
    ]
    assert timesteps_of(places) == [999.0, 400.0, None]


@pytest.mark.parametrize("about", [{}, {"schedule": 5}, {"schedule": ["x"]}, {"schedule": [True]}])
def test_a_recording_that_says_no_schedule_is_refused(about: dict[str, object], tmp_path: Path) -> None:
    body = {"version": 1, "groups": [{"targets": ["Linear"], "scheme": "W8A8", "steps": {"first": 0.1}}]}
    recipe = quant.Recipe.from_dict(body)
    with pytest.raises(
        CalibrationError, match=r"recording\.json: says no 'schedule', which 'steps' needs; record again"
    ):
        schedule_of_calls(recipe, Calls(tmp_path, about, "", {}))
    assert (
        schedule_of_calls(quant.Recipe.from_file("recipes/general/w8a8.yaml"), Calls(tmp_path, about, "", {})) is None
    )
