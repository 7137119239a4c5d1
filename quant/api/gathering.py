"""From a calibration that is prepared to its solved layers, whichever way the recipe's statistics are gathered."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from quant.api.record_calls import What
from quant.api.writing import Tensors, Writing
from quant.calibration.calls import INDEX, Calls, open_calls
from quant.calibration.journal import Journal
from quant.calibration.kept_solutions import KeptSolutions
from quant.calibration.preparing import Prepared
from quant.calibration.ranks import Ranks
from quant.calibration.recorded import Recorded, denoiser_calls
from quant.calibration.schedule import schedule_of_calls, schedule_of_run
from quant.calibration.sensitivity import check_measurable
from quant.calibration.solved import Solved, solve_models
from quant.calibration.way import STEPS, not_recorded, takes_calls
from quant.checkpoint.folder import OutputFolder
from quant.devices import find_device
from quant.errors import CalibrationError, QuantWarning, UnrecordedError
from quant.pipelines.inputs.base import Component
from quant.pipelines.snapshot import Snapshot
from quant.pipelines.weights import of_model


@dataclass(frozen=True)
class Gathered:
    """Solved layers, and what a checkpoint is written from.

    Attributes:
        solved: of the components.
        tensors: the components', by name.
        pipe: what was run; None where nothing was, or only for a recording.
    """

    solved: Solved
    tensors: Tensors
    pipe: Any = None

    def with_pipeline(self, start: Prepared, dtype: torch.dtype, device: str | None) -> tuple[Solved, Any]:
        """The same layers as those of a pipeline with all its weights, and the pipeline; loaded where it is not."""
        if self.pipe is not None:
            return self.solved, self.pipe
        pipe, models = start.load(dtype, device)
        return replace(self.solved, models=models), pipe


def gather(
    folder: OutputFolder,
    start: Prepared,
    parts: Mapping[str, Component],
    snapshot: Snapshot,
    key: str,
    how: Writing,
    device: str | None,
    ranks: Ranks,
) -> Gathered:
    """Gathers what the recipe needs and solves all layers, or goes on where a killed run was.

    Args:
        folder: where work is kept, claimed for the run with this key.
        start: the calibration.
        parts: its components.
        snapshot: of the model.
        key: of the run.
        how: dtype and bars.
        device: where it runs.
        ranks: the processes that share recorded calls which are given.

    Warns:
        QuantWarning: why a recipe that takes recorded calls is calibrated while the pipeline runs.
    """
    if start.recipe.keep_budget is not None:
        check_measurable({name: part.model for name, part in parts.items()})
    kept = KeptSolutions(folder.solved, key)
    if start.calls is not None:
        return _on_calls(start, start.calls, parts, kept, how, ranks.device(device), ranks)
    if start.rows is None:
        models = {name: part.model for name, part in parts.items()}
        solved = solve_models(models, start.recipe, None, None, start.settings, kept=kept)
        return Gathered(solved, {name: part.tensors(how.dtype) for name, part in parts.items()})
    if takes_calls(start.recipe):
        reason = not_recorded(start.components)
        if reason is None:
            try:
                calls = _recorded(folder, start, snapshot, how, device)
                # Another key, as solutions of the pipeline's own run would be others.
                on_calls = KeptSolutions(folder.solved, f"{key} on {calls.key}")
                return _on_calls(start, calls, parts, on_calls, how, device, ranks)
            except UnrecordedError as error:
                reason = str(error)
        warnings.warn(
            f"{reason}; {start.recipe.name} is calibrated while the pipeline runs on {len(start.rows)} inputs instead, "
            "once for every pass",
            QuantWarning,
            stacklevel=4,
        )
    return _while_it_runs(folder, start, key, kept, how, device)


def recording_of(start: Prepared, components: Sequence[str], dtype: torch.dtype) -> What:
    """What a recording of some denoisers on a calibration's inputs is."""
    assert start.rows is not None
    seed = start.recipe.calibration.seed
    return What(start.source, components, start.rows, start.settings, seed, STEPS, dtype)


def _recorded(folder: OutputFolder, start: Prepared, snapshot: Snapshot, how: Writing, device: str | None) -> Calls:
    """The calibration's own recording, between its work files: made, gone on with, or there."""
    what = recording_of(start, start.components, how.dtype)
    if (folder.recorded / INDEX).is_file():
        with suppress(CalibrationError):  # damaged: what of it is whole is used
            made = open_calls(folder.recorded)
            if made.key == what.run(snapshot)["key"]:
                for place in (place for name in start.components for place in made.places(name)):
                    made.load(place)
                return made
    return what.record(folder.recorded, snapshot, device, how.progress)


def _on_calls(
    start: Prepared,
    calls: Calls,
    parts: Mapping[str, Component],
    kept: KeptSolutions,
    how: Writing,
    device: str | None,
    ranks: Ranks,
) -> Gathered:
    where = find_device(device)
    models = {name: part.model for name, part in parts.items()}
    tensors = {name: part.tensors(how.dtype) for name, part in parts.items()}
    recorded = {name: Recorded(denoiser_calls(calls, name), tensors[name], how.dtype, where) for name in models}
    solved = solve_models(
        models,
        start.recipe,
        None,
        None,
        start.settings,
        kept=kept,
        recorded=recorded,
        schedule=schedule_of_calls(start.recipe, calls),
        progress=how.progress,
        ranks=ranks,
    )
    return Gathered(replace(solved, calls=calls), tensors)


def _while_it_runs(
    folder: OutputFolder, start: Prepared, key: str, kept: KeptSolutions, how: Writing, device: str | None
) -> Gathered:
    journal = Journal(folder.journal, key)
    pipe, models = start.load(how.dtype, device)
    forward = start.runner(pipe, how.progress, journal)
    schedule = schedule_of_run(start.recipe, pipe, start.rows, start.settings)
    solved = solve_models(models, start.recipe, forward, start.rows, start.settings, journal, kept, schedule=schedule)
    return Gathered(solved, {name: of_model(module) for name, module in models.items()}, pipe)
