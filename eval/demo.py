"""`quant demo`: a few recipes on one model, and an evaluation of what they cost."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import quant
from quant.eval.demo_folder import CHECKPOINTS, INPUTS, MEDIA, PAGE, RESULTS, RUN, SHEET, claim
from quant.eval.demo_rows import places_of, rows_of, write_table
from quant.eval.demo_work import REPORT, Work, calibrating
from quant.eval.inputs.config import EvaluationConfig, SpeedSettings
from quant.eval.progress import Progress, silent
from quant.eval.report.notebook import render
from quant.eval.report.sheet import write_sheet
from quant.eval.results.schema import read_results
from quant.eval.runs.running import run_evaluation
from quant.files.locks import locked
from quant.files.places import check_apart, check_folder_place
from quant.pipelines.rows import Row

#: One of each kind: the closest, the smallest, the sparse one.
RECIPES = ("w8a8-gptq", "w4a16-gptq", "sparse24-fp8")
ALL_RECIPES = (*RECIPES, "fp8-dynamic", "w8a8", "w4a8")
#: Inputs that recipes are calibrated on, far fewer than they ask for: on a CPU without bf16 each takes seconds.
SAMPLES = 2
#: Whole videos by which each model is timed: of reference arithmetic, which stands in a detail.
ROUNDS = 1
#: For which GPU a denoising step is estimated.
GPU = "h100-sxm"
#: Denoising steps of a model that does not say how many it takes.
_STEPS = 50


def run_demo(
    model: Path,
    out: Path,
    *,
    calibration: Path,
    rows: Sequence[Row],
    recipes: Sequence[str] = RECIPES,
    settings: quant.GenerationSettings,
    seed: int = 0,
    force: bool = False,
    command: str = "",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Calibrates `recipes`, makes every row's video with the original and each of them, and returns the results.

    A demo that was killed goes on where it was when the same is asked for again.

    Args:
        model: a pipeline folder.
        out: gets `index.html`, `frames.png`, `results.json`, a pipeline folder for each recipe in `checkpoints`, and
            the folder of the evaluation.
        calibration: a file of prompts or a table of inputs, for recipes that need data.
        rows: one video each; number i has the seed `seed + i` for every model.
        settings: of the videos and of calibration, over the model's own.
        force: replace what is in `out` where it is not this demo.
        command: as typed, for the results.
        progress: called after every part and every denoising step of a video, with how much of all work is done.

    Raises:
        QuantError: `out` holds something else, or an input cannot be used.
    """
    request = {
        "model": str(model.resolve()),
        "calibration": str(calibration.resolve()),
        "inputs": [row.plain() for row in rows],
        "recipes": list(recipes),
        "settings": settings.given(),
        "seed": seed,
    }
    check_apart(out, [model, calibration, *places_of(rows)])
    place = check_folder_place(out)
    with locked(place.with_name(f".{place.name}.lock"), str(out)):
        claim(out, request, force=force)
        return _made(model, out, calibration, rows, recipes, settings, seed, command, progress)


def _made(
    model: Path,
    out: Path,
    calibration: Path,
    rows: Sequence[Row],
    recipes: Sequence[str],
    settings: quant.GenerationSettings,
    seed: int,
    command: str,
    progress: Progress,
) -> dict[str, Any]:
    """Does the work of `run_demo` in a folder that is its own."""
    samples = len(rows_of(model, calibration, settings, SAMPLES))
    given = quant.GenerationSettings.read(model).merged(**settings.given())
    work = Work(
        recipes,
        samples=samples,
        clips=len(rows),
        steps=given.get("num_inference_steps") or _STEPS,
        rounds=ROUNDS,
        progress=progress,
    )
    write_table(rows, out / INPUTS, out / MEDIA)
    for recipe in recipes:
        work.begin(calibrating(recipe))
        folder = out / CHECKPOINTS / recipe
        if not folder.is_dir():
            quant.calibrate(
                model,
                recipe,
                folder,
                inputs=calibration,
                full=True,
                settings=settings,
                samples=samples,
                force=True,
                progress=False,
            )
    config = EvaluationConfig(
        name=RUN,
        model=str(model.resolve()),
        candidates={recipe: str((out / CHECKPOINTS / recipe).resolve()) for recipe in recipes},
        inputs=str((out / INPUTS).resolve()),
        seeds=(seed,),
        settings=settings,
        dtype="float32",
        device="cpu",
        speed=SpeedSettings(ROUNDS, gpu=GPU),
    )
    run = run_evaluation(config, out, command=command, progress=work.evaluated)
    work.begin(REPORT)
    shutil.copyfile(run / "results.json", out / RESULTS)
    shutil.copyfile(render(run), out / PAGE)
    write_sheet(run, out / SHEET)
    return read_results(run)
