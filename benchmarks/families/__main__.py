"""Measures what every recipe does to every video denoiser: `make families`, or with options by hand.

Real sizes on the meta device, from names and shapes; tiny models in float32 with random weights, which are quantized,
run, saved, loaded and run again, one recipe of each in a process of its own too. Cells go to
`benchmarks/results/families.json` one by one, and those that are there are not measured again.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

import click
import torch

from benchmarks.families.denoiser import Denoiser
from benchmarks.families.fresh import digest
from benchmarks.families.models import MODELS
from benchmarks.families.real import coverage
from benchmarks.families.results import RESULTS, Results, general_recipes, read, write
from benchmarks.families.tiny import run, trial
from quant import load
from quant.families.table import family_of
from quant.recipe_files import find_recipe

#: Recipes of the short run, and the one whose checkpoints a process of its own loads.
SHORT, FRESH = ("fp8-dynamic", "w8a8"), "w8a8"


@click.command()
@click.option("--short", is_flag=True, help=f"The recipes {', '.join(SHORT)} at tiny size only.")
@click.option("--only", multiple=True, metavar="TEXT", help="Models whose name contains it; may be given often.")
@click.option("--recipe", "recipes", multiple=True, metavar="NAME", help="This recipe; may be given often.")
@click.option("--again", is_flag=True, help="Measure what is there already, too.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, help="The file of results.")
def main(short: bool, only: tuple[str, ...], recipes: tuple[str, ...], again: bool, out: Path) -> None:
    """Measure what every recipe does to every video denoiser of diffusers."""
    results = read(out)
    models = [model for model in MODELS if not only or any(text in name for text in only for name in model.real)]
    wanted = list(recipes or (SHORT if short else general_recipes()))
    if not short:
        _real(results, models, wanted, again, out)
    _tiny(results, models, wanted, again, out)
    _fresh(results, models, again, out)


def _real(results: Results, models: Sequence[Denoiser], wanted: Sequence[str], again: bool, out: Path) -> None:
    """Covers each published model."""
    for model in models:
        for name in model.real:
            row = results["real"].setdefault(name, {"recipes": {}})
            missing = [recipe for recipe in wanted if again or recipe not in row["recipes"]]
            if not missing:
                continue
            made = model.make_real(name)
            family = family_of(made).name
            row |= {"cls": model.cls, "family": family, "parameters": sum(p.numel() for p in made.parameters())}
            row["recipes"] |= {recipe: coverage(made, find_recipe(recipe, family)) for recipe in missing}
            write(out, results)
            click.echo(f"{name}: {len(row['recipes'])} recipes")


def _tiny(results: Results, models: Sequence[Denoiser], wanted: Sequence[str], again: bool, out: Path) -> None:
    """Runs each tiny model, one recipe after another."""
    for recipe in wanted:
        for model in models:
            row = results["tiny"].setdefault(model.name, {"cls": model.cls, "recipes": {}})
            row["pipelines"] = list(model.pipelines)
            if recipe in row["recipes"] and not again:
                continue
            with tempfile.TemporaryDirectory() as folder:
                row["recipes"][recipe] = trial(model, recipe, Path(folder) / "checkpoint")
            write(out, results)
            click.echo(f"{recipe}: {model.name}: {next(iter(row['recipes'][recipe].values()))}")


def _fresh(results: Results, models: Sequence[Denoiser], again: bool, out: Path) -> None:
    """Loads a checkpoint of each model in a process of its own, all in one."""
    todo = [model for model in models if again or "fresh" not in results["tiny"].get(model.name, {"fresh": ""})]
    if not todo:
        return
    with tempfile.TemporaryDirectory() as root:
        expected, folders = {}, []
        for i, model in enumerate(todo):
            if "error" not in trial(model, FRESH, Path(root) / str(i)):
                continue
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                expected[model.name] = digest(run(model, copy.deepcopy(load(Path(root) / str(i)))))
            folders.append((model.name, str(Path(root) / str(i))))
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.families.fresh"]
        done = subprocess.run(command, input=json.dumps(folders), capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"a fresh process failed: {done.stderr[-2000:]}")
    for name, found in json.loads(done.stdout).items():
        results["tiny"][name]["fresh"] = "equal" if found == expected[name] else found
    write(out, results)


if __name__ == "__main__":
    main()
