"""The timesteps of the steps that a pipeline runs, and which of them are a recipe's first and last shares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from quant.calibration.calls import INDEX, Calls, Place
from quant.calibration.looking import look
from quant.errors import CalibrationError
from quant.families.table import DENOISERS
from quant.fields import is_number
from quant.formats.steps import PreciseSteps
from quant.pipelines.rows import Row
from quant.pipelines.settings import GenerationSettings
from quant.recipe import Recipe
from quant.recipe_parts import StepShares

#: Of recording.json: what `timesteps_of` returns of the first input that was looked at.
SCHEDULE = "schedule"


def timesteps_of(places: Sequence[Place]) -> list[float | None]:
    """The timestep of each step, in order, of the calls on one input; None where a denoiser takes none."""
    found: dict[int, float] = {}
    for place in places:
        found.setdefault(place.step, place.timestep)
    return [None if found[step] != found[step] else found[step] for step in sorted(found)]


def schedule_of_run(
    recipe: Recipe, pipe: Any, rows: Sequence[Row] | None, settings: GenerationSettings
) -> list[float | None] | None:
    """The timesteps of the first input's run, of which each denoiser computes one call; None where a recipe needs none.

    Args:
        recipe: whose groups may have `steps`.
        pipe: on its device. Every denoiser is asked, since experts share a schedule.
        rows, settings: what it runs; None where nothing is run.

    Raises:
        CalibrationError: as `look`.
    """
    if not recipe.has_steps or not rows:
        return None
    parts = getattr(pipe, "components", {})
    models = {name: parts[name] for name in DENOISERS if isinstance(parts.get(name), nn.Module)}
    return timesteps_of(look(pipe, models, rows[0], 0, settings, recipe.calibration.seed))


def schedule_of_calls(recipe: Recipe, calls: Calls) -> list[float | None] | None:
    """The timesteps of a recording's first input; None where a recipe needs none.

    Raises:
        CalibrationError: the recording does not say.
    """
    if not recipe.has_steps:
        return None
    found = calls.about.get(SCHEDULE)
    if not isinstance(found, list) or not all(each is None or is_number(each) for each in found):
        raise CalibrationError(f"{calls.folder / INDEX}: says no '{SCHEDULE}', which 'steps' needs; record again")
    return found


def chosen_steps(recipe: Recipe, schedule: Sequence[float | None] | None) -> Mapping[StepShares, PreciseSteps]:
    """What the shares of a recipe's groups are of a schedule.

    Raises:
        CalibrationError: there is no schedule, its timesteps neither fall nor rise, or no step would be left.
    """
    chosen = {}
    for i, group in enumerate(recipe.groups):
        if group.steps is None:
            continue
        where = f"{recipe.name}: groups[{i}].steps"
        if schedule is None:
            raise CalibrationError(
                f"{where}: the schedule is that of a pipeline's run; give a pipeline and --prompts or --inputs "
                "(prompts=, inputs= in Python), of which one is enough where nothing else needs any"
            )
        chosen[group.steps] = precise_steps(group.steps, schedule, where)
    return chosen


def precise_steps(shares: StepShares, schedule: Sequence[float | None], where: str) -> PreciseSteps:
    """The first and last steps that shares are of a schedule, each to the nearest number, and one at least.

    Args:
        shares: of its steps.
        schedule: timesteps in the order of the steps. Where a pipeline runs one schedule several times, as for the
            parts of a clip, a share is one of each.
        where: the recipe's key, for errors.

    Raises:
        CalibrationError: as `chosen_steps`.
    """
    steps = _once([each for each in schedule if each is not None])
    if not steps or None in schedule:
        raise CalibrationError(f"{where}: the timesteps neither fall nor rise from step to step, so no share is an end")
    size = len(steps)
    first, last = (_count(share, size) for share in (shares.first, shares.last))
    if first + last >= size:
        raise CalibrationError(
            f"{where}: first {shares.first:g} and last {shares.last:g} are all of the {size} steps that are run, and "
            "nothing would be quantized; take less, or 'ignore' the layers"
        )
    rising = sorted(steps)
    low, high = (last, first) if steps[0] > steps[-1] else (first, last)
    return PreciseSteps(
        above=_between(rising[size - high - 1], rising[size - high]) if high else None,
        up_to=_between(rising[low - 1], rising[low]) if low else None,
        first=first,
        last=last,
        of=size,
    )


def _count(share: float, size: int) -> int:
    return max(1, int(share * size + 0.5)) if share else 0


def _once(schedule: Sequence[float]) -> list[float]:
    """One run of a schedule that is run once or several times; empty where its timesteps neither fall nor rise."""
    sign = 1 if len(schedule) > 1 and schedule[1] > schedule[0] else -1
    end = next((i for i in range(1, len(schedule)) if sign * (schedule[i] - schedule[i - 1]) <= 0), len(schedule))
    times, rest = divmod(len(schedule), max(end, 1))
    one = list(schedule[:end])
    return one if not rest and list(schedule) == one * times else []


def _between(below: float, above: float) -> float:
    """A float32 from `below` up to, but not at, `above`: as layers compare it with a timestep in float32."""
    middle = float(torch.tensor((below + above) / 2, dtype=torch.float32))
    return middle if below <= middle < above else below
