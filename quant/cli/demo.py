"""`quant demo`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from quant.cli.options import generation_options, given_settings


@click.command()
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A pipeline folder.  [default: examples/shapes/model of the repository]",
)
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
@click.option("--clips", type=click.IntRange(1), default=32, show_default=True, help="How many prompts to use.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first video; each next one adds 1."
)
@generation_options
@click.option("--force", is_flag=True, help="Replace DIR if it exists.")
def demo(
    model: Path | None,
    prompts: Path | None,
    calibration: Path | None,
    out: Path,
    clips: int,
    seed: int,
    force: bool,
    **generation: float | None,
) -> None:
    """Calibrate five recipes on a small model, make videos with each, and put them side by side in one HTML file.

    Same prompts, seeds and initial latents for every model; runs on a CPU. Without options it needs a clone of the
    repository, which holds the model and its prompts. Size, frames, steps and guidance are those of generation.json
    in the model's folder where they are not given.
    """
    from quant.checkpoint.folder import new_folder
    from quant.cli.progress import StepBars
    from quant.eval.demo import PAGE, read_lines, run_demo
    from quant.eval.report.table import summary
    from quant.eval.shapes.example import shapes_example

    if model is None or prompts is None or calibration is None:
        example = shapes_example()
        model, prompts = model or example.model, prompts or example.prompts
        calibration = calibration or example.calibration
    texts = read_lines(prompts)
    with StepBars() as bars, new_folder(out, force=force) as work:
        results = run_demo(
            model,
            work,
            calibration=calibration,
            prompts=_spread(texts, clips),
            settings=given_settings(generation),
            seed=seed,
            progress=bars.show,
        )
    click.echo(summary(results))
    click.echo(f"\nopen {(out / PAGE).resolve()}")


def _spread(texts: Sequence[str], count: int) -> list[str]:
    """`count` of `texts`, evenly from the whole file: its parts may hold different kinds of prompts."""
    count = min(count, len(texts))
    return [texts[i * len(texts) // count] for i in range(count)]
