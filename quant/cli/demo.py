"""`quant demo`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from quant.cli.options import generation_options, given_settings


@click.command()
@click.option("--example", "name", metavar="NAME", help="A model in the repository's examples.  [default: shapes]")
@click.option("--model", type=click.Path(path_type=Path), metavar="DIR", help="A pipeline folder, in its place.")
@click.option("--prompts", type=click.Path(path_type=Path), metavar="FILE", help="Prompts of the videos, one a line.")
@click.option("--calibration", type=click.Path(path_type=Path), metavar="FILE", help="Prompts to calibrate on.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    metavar="DIR",
    help="The folder to make.",
)
@click.option(
    "--recipes",
    default="",
    metavar="NAME,...|all",
    help="Recipes to compare, of `quant recipes`; all: six of them.  [default: w8a8-gptq, w4a16-gptq, sparse24-fp8]",
)
@click.option("--clips", type=click.IntRange(1), default=8, show_default=True, help="How many prompts to use.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first video; each next one adds 1."
)
@generation_options
@click.option("--force", is_flag=True, help="Replace DIR if it holds another demo.")
def demo(
    name: str | None,
    model: Path | None,
    prompts: Path | None,
    calibration: Path | None,
    out: Path,
    recipes: str,
    clips: int,
    seed: int,
    force: bool,
    **generation: Any,
) -> None:
    """Calibrate three recipes on a small model, and evaluate each against the original: one HTML report.

    Same prompts, seeds and initial latents for every model; runs on a CPU. The same command goes on with a demo that
    was killed. Without options it needs a clone of the repository, which holds the model and its prompts. Size,
    frames, steps and guidance are those of generation.json in the model's folder where they are not given.
    """
    from quant.cli.progress import OneLine
    from quant.eval.demo import ALL_RECIPES, PAGE, RECIPES, read_lines, run_demo
    from quant.eval.examples import EXAMPLES, example
    from quant.eval.results.summary import notes, summary
    from quant.eval.tables import as_text

    if model is None or prompts is None or calibration is None:
        found = example(name or EXAMPLES[0].name)
        model, prompts = model or found.model, prompts or found.prompts
        calibration = calibration or found.calibration
    chosen = ALL_RECIPES if recipes == "all" else tuple(filter(None, map(str.strip, recipes.split(",")))) or RECIPES
    with OneLine() as line:
        results = run_demo(
            model,
            out,
            calibration=calibration,
            prompts=_spread(read_lines(prompts), clips),
            recipes=chosen,
            settings=given_settings(generation),
            seed=seed,
            force=force,
            command=shlex.join(["quant", *sys.argv[1:]]),
            progress=line.show,
        )
    click.echo("\n".join([as_text(summary(results)), "", *notes(results)]))
    click.echo(f"\nopen {(out / PAGE).resolve()}")


def _spread(texts: Sequence[str], count: int) -> list[str]:
    """`count` of `texts`, evenly from the whole file: its parts may hold different kinds of prompts."""
    count = min(count, len(texts))
    return [texts[i * len(texts) // count] for i in range(count)]
