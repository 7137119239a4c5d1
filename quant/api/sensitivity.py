"""`quant.measure_sensitivity`: what the quantization of a layer, a block or a step alone does to the prediction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from quant.calibration.preparing import prepare
from quant.calibration.schedule import schedule_of_run
from quant.calibration.sensitivity import UNITS, check_measurable, sensitivity_of
from quant.calibration.solved import solve_models
from quant.checkpoint.sensitivity import Sensitivity
from quant.errors import CalibrationError
from quant.pipelines.rows import Inputs
from quant.pipelines.settings import GenerationSettings
from quant.recipe import Recipe
from quant.text import shown


def measure_sensitivity(
    model: str | Path,
    recipe: str | Path | Recipe,
    prompts: str | Path | Sequence[str] | None = None,
    *,
    inputs: Inputs | None = None,
    by: str = "layer",
    runs: int = 4,
    steps: int | None = None,
    settings: GenerationSettings | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Sensitivity:
    """Quantizes every layer, block or step of a model on its own and measures what becomes of the prediction.

    Costs, besides what the recipe's own calibration costs, `runs` inputs in which each measured call is made once more
    for every unit.

    Args:
        model: a pipeline folder or hub id.
        recipe: how layers are quantized.
        prompts, inputs: as in `quant.calibrate`, one of both; the first are run to measure, and all that the recipe
            asks for to calibrate.
        by: "layer"; "block" for all quantized layers of one at once; "step" for all quantized layers of the model at
            one denoising step, while the others are the original's.
        runs: how many inputs are run to measure.
        steps: how many denoising steps of each are measured, evenly from the first to the last; by default 5, and all
            of them by step.
        settings, dtype, device, samples, seed, progress: as in `quant.calibrate`.

    Raises:
        QuantError: wrong input, or a model that is not called with timesteps.
    """
    prepared = prepare(
        model, recipe, prompts=prompts, inputs=inputs, settings=settings, samples=samples, seed=seed, runs=True
    )
    assert prepared.rows is not None
    if by not in UNITS:
        raise CalibrationError(f"sensitivity is measured by {', '.join(UNITS[:-1])} or {UNITS[-1]}, not by {shown(by)}")
    pipe, models = prepared.load(dtype, device)
    check_measurable(models)
    forward = prepared.runner(pipe, progress)
    schedule = schedule_of_run(prepared.recipe, pipe, prepared.rows, prepared.settings)
    solved = solve_models(models, prepared.recipe, forward, prepared.rows, prepared.settings, schedule=schedule)
    return sensitivity_of(
        solved, pipe, prepared.source.name, prepared.rows[:runs], by=by, steps=steps, progress=progress
    )
