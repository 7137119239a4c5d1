"""`quant demo`: five recipes on one model, the same videos from each, a table and a page.

A small evaluation with its parts where the whole one will grow: `generation`, `metrics`, `results`, `report`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import quant
from quant.errors import QuantError
from quant.eval.generation import Generated, InitialLatents, generate, initial_latents
from quant.eval.metrics.paired import Frames, paired_psnr
from quant.eval.report.page import page
from quant.eval.results import Measurement, Results, Sample, write_results
from quant.eval.shapes.judge import verdicts

RECIPES = ("fp8-dynamic", "w8a8", "w4a16-gptq", "w4a8", "sparse24-fp8")
BATCH = 8
#: Prompts that recipes are calibrated on: a quarter of what they ask for, so that a demo takes minutes.
SAMPLES = 8
PAGE, RESULTS = "index.html", "results.json"

#: Called with what is being done, how many steps of it are done, and of how many.
Progress = Callable[[str, int, int], None]


def run_demo(
    model: Path,
    out: Path,
    *,
    calibration: Path,
    prompts: Sequence[str],
    recipes: Sequence[str] = RECIPES,
    settings: quant.GenerationSettings,
    seed: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> Results:
    """Calibrates `recipes`, makes every prompt's video with the original and each of them, writes page and results.

    Args:
        model: a pipeline folder.
        out: an existing folder; gets `index.html`, `results.json`, and a checkpoint folder for each recipe.
        calibration: a prompt file for recipes that need data.
        prompts: one video each; prompt i has the seed `seed + i` for every model.
        settings: of the videos and of calibration, over the model's own.
        progress: told of every denoising step.
    """
    chosen = quant.GenerationSettings.read(model).merged(**settings.given())
    pipeline = _pipeline(model)
    call = chosen.for_pipeline(pipeline)
    latents = initial_latents(pipeline, call, [seed + i for i in range(len(prompts))])

    def videos(pipe: Any, name: str) -> Generated:
        return generate(
            pipe, prompts, latents, call, batch=BATCH, on_step=lambda done, total: progress(name, done, total)
        )

    original = videos(pipeline, "original")
    frames: list[Frames] = []
    measured: list[Measurement] = []
    used: list[int] = []
    sizes = (0, 0)
    for recipe in recipes:
        folder = out / recipe
        found = quant.calibrate(
            model, recipe, folder, prompts=calibration, full=True, settings=settings, samples=SAMPLES, force=True
        )
        used.append(found.used_prompts)
        made = videos(_pipeline(folder), recipe)
        sizes = _sizes(folder)
        measured.append(_measure(recipe, _scheme(folder), sizes, made, prompts, original.frames))
        frames.append(made.frames)
    first = _measure("original", "bf16", (sizes[1], sizes[1]), original, prompts, None)
    results = _results(model, call, latents, prompts, first, measured, max(used, default=0))
    (out / PAGE).write_text(page(results, original.frames, frames), encoding="utf-8")
    write_results(results, out / RESULTS)
    return results


def _pipeline(folder: Path) -> Any:
    """A pipeline as stock diffusers loads it, computing in float32 on the CPU."""
    from diffusers import DiffusionPipeline

    import quant.diffusers  # noqa: F401  (teaches diffusers the checkpoints)

    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _measure(
    name: str,
    scheme: str,
    sizes: tuple[int, int],
    made: Generated,
    prompts: Sequence[str],
    reference: Frames | None,
) -> Measurement:
    return Measurement(
        name=name,
        scheme=scheme,
        stored_bytes=sizes[0],
        bf16_bytes=sizes[1],
        seconds_per_step=made.seconds_per_step,
        psnr=() if reference is None else paired_psnr(reference, made.frames),
        judged=verdicts(made.frames, prompts),
    )


def _sizes(folder: Path) -> tuple[int, int]:
    components = quant.inspect(folder).components
    return sum(c.nbytes for c in components), sum(c.bf16_nbytes for c in components)


def _scheme(folder: Path) -> str:
    schemes = {layer.scheme for c in quant.inspect(folder).components for layer in c.layers if layer.scheme}
    return ", ".join(sorted(schemes))


def _results(
    model: Path,
    call: Mapping[str, Any],
    latents: InitialLatents,
    prompts: Sequence[str],
    original: Measurement,
    candidates: Sequence[Measurement],
    calibration_prompts: int,
) -> Results:
    packages = ("quant-video", "torch", "diffusers")
    return Results(
        model="/".join(model.resolve().parts[-2:]),
        settings=call,
        batch=min(BATCH, len(prompts)),
        latents_sha256=latents.sha256,
        versions={"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
        samples=tuple(Sample(prompt, number) for prompt, number in zip(prompts, latents.seeds, strict=True)),
        original=original,
        candidates=tuple(candidates),
        calibration_prompts=calibration_prompts,
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
