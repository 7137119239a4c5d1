"""`quant demo`: a few recipes on one model, and an evaluation of what they cost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import quant
from quant.errors import QuantError
from quant.eval.demo_work import REPORT, Work, calibrating
from quant.eval.inputs.config import EvaluationConfig, SpeedSettings
from quant.eval.progress import Progress, silent
from quant.eval.report.notebook import render
from quant.eval.results.schema import read_results
from quant.eval.runs.running import run_evaluation
from quant.eval.storage.files import write_json
from quant.files.json_files import read_object
from quant.files.locks import locked
from quant.files.places import check_apart, check_folder_place, is_as_listed, is_card
from quant.prompts import read_prompts
from quant.text import shown

#: One of each kind: the closest, the smallest, the sparse one.
RECIPES = ("w8a8-gptq", "w4a16-gptq", "sparse24-fp8")
ALL_RECIPES = (*RECIPES, "fp8-dynamic", "w8a8", "w4a8")
#: Prompts that recipes are calibrated on, far fewer than they ask for: on a CPU without bf16 each takes seconds.
SAMPLES = 2
#: Whole videos by which each model is timed: of reference arithmetic, which stands in a detail.
ROUNDS = 1
#: For which GPU a denoising step is estimated.
GPU = "h100-sxm"
#: Denoising steps of a model that does not say how many it takes.
_STEPS = 50
PAGE, RESULTS = "index.html", "results.json"
#: Says what a folder is the demo of, so that the same one goes on in it and another does not.
_REQUEST = "demo.json"
#: What the folder of the evaluation is called; a hash follows.
_RUN = "evaluation"
_CHECKPOINTS = "checkpoints"
#: What a demo makes but for its checkpoints, in which `*` stands for folders too; stopped work is hidden.
_MADE = (
    PAGE,
    RESULTS,
    _REQUEST,
    f"{_CHECKPOINTS}/.*.quant/*",
    f"{_CHECKPOINTS}/.*.lock",
    *(
        f"{_RUN}-*/{name}"
        for name in (
            *("config.json", "config.next.json", "results.json", "speed-*.json", "report.html", "report.ipynb"),
            *("frames/*.mkv", "videos/*.mp4", "steps/*.npy", "features/*.npy", "journal/*.jsonl", ".lock*", "*.part"),
        )
    ),
)


def read_lines(path: Path) -> list[str]:
    """The lines of a prompt file that hold text. Raises QuantError where there are none."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise QuantError(f"{path}: cannot be read as a prompt file: {error.strerror}") from None
    if not lines:
        raise QuantError(f"{path}: no prompts in it; write one a line")
    return lines


def run_demo(
    model: Path,
    out: Path,
    *,
    calibration: Path,
    prompts: Sequence[str],
    recipes: Sequence[str] = RECIPES,
    settings: quant.GenerationSettings,
    seed: int = 0,
    force: bool = False,
    command: str = "",
    progress: Progress = silent,
) -> dict[str, Any]:
    """Calibrates `recipes`, makes every prompt's video with the original and each of them, and returns the results.

    A demo that was killed goes on where it was when the same is asked for again.

    Args:
        model: a pipeline folder.
        out: gets `index.html`, `results.json`, a pipeline folder for each recipe in `checkpoints`, and the folder of
            the evaluation.
        calibration: a prompt file for recipes that need data.
        prompts: one video each; prompt i has the seed `seed + i` for every model.
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
        "prompts": list(prompts),
        "recipes": list(recipes),
        "settings": settings.given(),
        "seed": seed,
    }
    check_apart(out, [model, calibration])
    place = check_folder_place(out)
    with locked(place.with_name(f".{place.name}.lock"), str(out)):
        _claim(out, request, force=force)
        return _made(model, out, calibration, prompts, recipes, settings, seed, command, progress)


def _made(
    model: Path,
    out: Path,
    calibration: Path,
    prompts: Sequence[str],
    recipes: Sequence[str],
    settings: quant.GenerationSettings,
    seed: int,
    command: str,
    progress: Progress,
) -> dict[str, Any]:
    """Does the work of `run_demo` in a folder that is its own."""
    samples = min(SAMPLES, len(read_prompts(calibration, SAMPLES, enough=False)))
    given = quant.GenerationSettings.read(model).merged(**settings.given())
    work = Work(
        recipes,
        samples=samples,
        clips=len(prompts),
        steps=given.get("num_inference_steps") or _STEPS,
        rounds=ROUNDS,
        progress=progress,
    )
    for recipe in recipes:
        work.begin(calibrating(recipe))
        folder = out / _CHECKPOINTS / recipe
        if not folder.is_dir():
            quant.calibrate(
                model,
                recipe,
                folder,
                prompts=calibration,
                full=True,
                settings=settings,
                samples=samples,
                force=True,
                progress=False,
            )
    config = EvaluationConfig(
        name=_RUN,
        model=str(model.resolve()),
        candidates={recipe: str((out / _CHECKPOINTS / recipe).resolve()) for recipe in recipes},
        prompts=tuple(prompts),
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
    return read_results(run)


def _claim(out: Path, request: Mapping[str, Any], *, force: bool) -> None:
    """Makes `out`, or finds it begun by the same request. Raises QuantError where something else is in it."""
    try:
        if out.is_dir() and any(out.iterdir()) and _request(out) != request:
            foreign = _foreign(out)
            if _request(out) is None or foreign:
                what = f"{shown(foreign[0])}, which" if foreign else "what"
                raise QuantError(f"{out}: holds {what} no demo made, and is not replaced; choose another --out")
            if not force:
                raise QuantError(f"{out}: already exists and is not of this demo; choose another --out, or --force")
            for path in out.iterdir():
                if path.name != _REQUEST:  # the last to go: it says that the rest is a demo's
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / _REQUEST, dict(request))
    except OSError as error:
        raise QuantError(f"{out}: cannot be written: {error.strerror}") from None


def _foreign(out: Path) -> list[str]:
    """The files of a folder that no demo made, and the links in it. Raises OSError where it cannot be read."""
    found = []
    for folder, folders, files in os.walk(out):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for path in (Path(folder) / name for name in (*files, *links)):
            inside = path.relative_to(out)
            known = any(fnmatchcase(inside.as_posix(), pattern) for pattern in _MADE)
            if path.is_symlink() or not (known or _is_of_a_checkpoint(out, inside)):
                found.append(inside.as_posix())
    return sorted(found)


def _is_of_a_checkpoint(out: Path, inside: Path) -> bool:
    """Whether a file is as the manifest of its checkpoint says, or the manifest, or the card."""
    if inside.parts[0] != _CHECKPOINTS or len(inside.parts) < 3:
        return False
    path, root = out / inside, out / Path(*inside.parts[:2])
    manifest = root / "quant_manifest.json"
    if path == manifest or (path.parent == root and is_card(path)):
        return True
    try:
        files = read_object(manifest, QuantError).get("files")
    except QuantError:
        return False
    return isinstance(files, dict) and is_as_listed(path, files.get(path.relative_to(root).as_posix()))


def _request(out: Path) -> dict[str, Any] | None:
    """What a demo's folder is of; None where it is no demo's."""
    try:
        found = read_object(out / _REQUEST, QuantError)
    except QuantError:
        return None
    return found if {"model", "prompts", "recipes", "settings", "seed"} <= set(found) else None
