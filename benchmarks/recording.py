"""Measures what a calibration on recorded calls gives: how many calls, and `inputs: original` against `compressed`.

`python -m benchmarks.recording` calibrates the example on recordings of different sizes and seeds and writes
benchmarks/results/recording.json. All steps of 32 prompts are what a run of the pipeline sees. What is measured of each
is the error of the denoiser's output on recorded calls of other prompts, relative to the original's, and the PSNR of
clips of these prompts from the same noise.
"""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import nn

import quant
from benchmarks.quality.conditions import Conditions, denoiser
from benchmarks.quality.subjects import subject
from quant.calibration.calls import Calls
from quant.calibration.way import takes_calls
from quant.eval.metrics.psnr import paired_psnr
from quant.eval.tables import Table, as_markdown
from quant.recipe import Recipe
from quant.recipe_files import find_recipe
from quant.recipe_parts import COMPRESSED, ORIGINAL

RESULTS = Path(__file__).parent / "results" / "recording.json"
RECIPES = "w4a16-gptq,w8a8-gptq,sparse24,w8a8,fp8-static"
#: Steps of 8 of 16 other prompts, 4 of each.
HELD_OUT, SEED = 32, 1000


@dataclass(frozen=True)
class Way:
    """How a recipe is calibrated.

    Attributes:
        steps: recorded, of the 640 of all prompts.
        seed: of the choice.
        inputs: `original` or `compressed`.
    """

    steps: int
    seed: int
    inputs: str


@dataclass(frozen=True)
class Found:
    """What was measured.

    Attributes:
        error: of the denoiser's output on calls of other prompts, relative to the original's, in the mean square.
        psnr: of each clip.
    """

    error: float
    psnr: tuple[float, ...]


def ways(steps: list[int], seeds: int, every: int) -> list[Way]:
    """All that are compared: several seeds of each, but of all calls, of which there is one choice."""
    found = product(steps, range(seeds), (ORIGINAL, COMPRESSED))
    return [Way(count, seed, inputs) for count, seed, inputs in found if count != every or not seed]


def outputs(model: nn.Module, calls: Calls, component: str) -> list[torch.Tensor]:
    """The denoiser's predictions on recorded calls."""
    found = []
    with torch.no_grad():
        for place in calls.places(component):
            args, kwargs = calls.load(place)
            found.append(model(*args, **{**kwargs, "return_dict": False})[0].double())
    return found


class Bench:
    """The example, its original's clips and predictions, and recordings that ways share."""

    def __init__(self, folder: Path, clips: int) -> None:
        self.conditions = Conditions.of(subject("shapes"), clips)
        self._folder = folder
        model, others = self.conditions.model, Conditions.of(subject("shapes"), 16).prompts
        self._held_out = quant.record(
            model, folder / "held-out", prompts=others, calls=HELD_OUT, seed=SEED, dtype=torch.float32, progress=False
        )
        pipe = self.conditions.pipeline()
        self._component, original = denoiser(pipe)
        self._expected = outputs(original, self._held_out, self._component)
        self._clips = self.conditions.videos(pipe)

    @property
    def every(self) -> int:
        """Steps of all calibration prompts."""
        return len(self.conditions.calibration) * int(self.conditions.settings.given()["num_inference_steps"])

    def recording(self, way: Way) -> Path:
        """The recording of a way."""
        place = self._folder / f"calls-{way.steps}-{way.seed}"
        if not place.is_dir():
            prompts = [row.text for row in self.conditions.calibration]
            quant.record(
                self.conditions.model,
                place,
                prompts=prompts,
                calls=way.steps,
                seed=way.seed,
                dtype=torch.float32,
                progress=False,
            )
        return place

    def measure(self, recipe: Recipe, way: Way) -> Found:
        """Calibrates and measures."""
        recipe = replace(recipe, calibration=replace(recipe.calibration, inputs=way.inputs))
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            out = Path(folder) / "made"
            quant.calibrate(
                self.conditions.model,
                recipe,
                out,
                calls=self.recording(way),
                full=True,
                dtype=torch.float32,
                progress=False,
            )
            pipe = self.conditions.pipeline(out)
            found = outputs(getattr(pipe, self._component), self._held_out, self._component)
            frames = self.conditions.videos(pipe)
        pairs = list(zip(found, self._expected, strict=True))
        error = sum(float((a - b).square().sum()) for a, b in pairs)
        power = sum(float(b.square().sum()) for _, b in pairs)
        return Found((error / power) ** 0.5, tuple(map(float, paired_psnr(self._clips, frames))))


def table(results: Mapping[str, Any]) -> str:
    """The measured figures, a line for each recipe and way, means over seeds."""
    rows = []
    for recipe, measured in results["recipes"].items():
        kinds = dict.fromkeys((row["steps"], row["inputs"]) for row in measured)
        for steps, inputs in kinds:
            mine = [row for row in measured if (row["steps"], row["inputs"]) == (steps, inputs)]
            errors = [100 * row["error"] for row in mine]
            spread = f" ({min(errors):.2f}-{max(errors):.2f})" if len(errors) > 1 else ""
            psnr = float(np.mean([row["psnr"] for row in mine]))
            what = "all" if steps == results["all"] else str(steps)
            rows.append((f"`{recipe}`", what, inputs, f"{np.mean(errors):.2f}{spread}", f"{psnr:.2f}"))
    return as_markdown(Table(("recipe", "steps", "inputs", "error %", "PSNR dB"), tuple(rows), words=3))


@click.command(help=__doc__)
@click.option("--recipes", default=RECIPES, show_default=True)
@click.option("--steps", default="32,640", show_default=True, help="Recorded; 640 are all.")
@click.option("--seeds", default=2, show_default=True)
@click.option("--clips", default=8, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(recipes: str, steps: str, seeds: int, clips: int, out: Path) -> None:
    chosen = [find_recipe(name, "wan") for name in recipes.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), clips)
        body: dict[str, Any] = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else {}
        rows = body.get("recipes", {})
        for way, recipe in product(ways(list(map(int, steps.split(","))), seeds, bench.every), chosen):
            mine = rows.setdefault(recipe.name, [])
            if way.inputs == COMPRESSED and not takes_calls(recipe):
                continue
            if any(Way(row["steps"], row["seed"], row["inputs"]) == way for row in mine):
                continue  # measured in an earlier run
            found = bench.measure(recipe, way)
            mine.append({**asdict(way), **asdict(found)})
            click.echo(f"{recipe.name} {way}: {found.error:.3%}, {np.mean(found.psnr):.2f} dB")
            body = {
                "machine": f"{platform.machine()}, torch {torch.__version__}", "example": "shapes", "all": bench.every,
                "clips": clips, "held_out_steps": HELD_OUT, "recipes": rows,
            }  # fmt: skip
            out.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
        click.echo(table(body))


if __name__ == "__main__":
    main()
