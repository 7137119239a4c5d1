"""`quant demo`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from quant.cli.options import INPUTS_HELP, generation_options, given_settings


@click.command()
@click.option("--example", "name", metavar="NAME", help="A model in the repository's examples.  [default: shapes]")
@click.option("--model", type=click.Path(path_type=Path), metavar="DIR", help="A pipeline folder, in its place.")
@click.option("--prompts", type=click.Path(path_type=Path), metavar="FILE", help="Prompts of the videos, one a line.")
@click.option("--inputs", type=click.Path(path_type=Path), metavar="FILE", help=INPUTS_HELP)
@click.option(
    "--calibration", type=click.Path(path_type=Path), metavar="FILE", help="Other prompts, or a table, to calibrate on."
)
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
@click.option("--clips", type=click.IntRange(1), help="How many prompts or rows to use.  [default: the example's, 8]")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first video; each next one adds 1."
)
@generation_options
@click.option("--force", is_flag=True, help="Replace DIR if it holds another demo.")
def demo(
    name: str | None,
    model: Path | None,
    prompts: Path | None,
    inputs: Path | None,
    calibration: Path | None,
    out: Path,
    recipes: str,
    clips: int | None,
    seed: int,
    force: bool,
    **generation: Any,
) -> None:
    """Calibrate three recipes on a small model, and evaluate each against the original: one HTML report.

    Same inputs, seeds and initial latents for every model; runs on a CPU. The same command goes on with a demo that
    was killed. Without options it needs a clone of the repository, which holds the model and its prompts; --example
    gen1 is a model that edits videos. Size, frames, steps and guidance are those of generation.json in the model's
    folder where they are not given.
    """
    from quant.cli.progress import OneLine
    from quant.errors import QuantError
    from quant.eval.demo import ALL_RECIPES, RECIPES, run_demo
    from quant.eval.demo_folder import PAGE, SHEET
    from quant.eval.demo_rows import rows_of, spread
    from quant.eval.examples import CLIPS, EXAMPLES, example
    from quant.eval.results.summary import notes, summary
    from quant.eval.tables import as_text

    if prompts is not None and inputs is not None:
        raise QuantError("--prompts and --inputs are given: a table of inputs has a column of prompts")
    table = inputs or prompts
    if model is None or table is None or calibration is None:
        found = example(name or EXAMPLES[0].name)
        model, table = model or found.model, table or found.inputs
        calibration, clips = calibration or found.calibration, clips or found.clips
    settings = given_settings(generation)
    chosen = ALL_RECIPES if recipes == "all" else tuple(filter(None, map(str.strip, recipes.split(",")))) or RECIPES
    with OneLine() as line:
        results = run_demo(
            model,
            out,
            calibration=calibration,
            rows=spread(rows_of(model, table, settings), clips or CLIPS),
            recipes=chosen,
            settings=settings,
            seed=seed,
            force=force,
            command=shlex.join(["quant", *sys.argv[1:]]),
            progress=line.show,
        )
    click.echo("\n".join([as_text(summary(results)), "", *notes(results)]))
    click.echo(f"\nopen {(out / PAGE).resolve()}\nor look at {(out / SHEET).resolve()}")
