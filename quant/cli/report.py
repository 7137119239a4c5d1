"""`quant report`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path), metavar="[RUN]")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where to write.  [default: RUN]"
)
@click.option(
    "--model-card",
    "checkpoint",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="CHECKPOINT",
    help="Write README.md into this checkpoint instead, with what --run measured of it.",
)
@click.option("--run", type=click.Path(path_type=Path), metavar="RUN", help="The run that a model card quotes.")
@click.option("--candidate", metavar="NAME", help="The checkpoint's name in the run, where its folder has moved.")
@click.option("--force", is_flag=True, help="Replace a README.md that someone else wrote.")
def report(
    folder: Path | None, out: Path | None, checkpoint: Path | None, run: Path | None, candidate: str | None, force: bool
) -> None:
    """Show what a run of `quant eval run` found: RUN/report.html, one file that opens offline, and RUN/report.ipynb.

    With --model-card it writes the README.md of a checkpoint for a model hub.

    \b
    Examples:
      quant report runs/wan-1a2b3c4d
      quant report --model-card wan-int8 --run runs/wan-1a2b3c4d
    """
    if checkpoint is None:
        _page(folder, out, unfit=[("--run", run), ("--candidate", candidate), ("--force", force)])
    else:
        _card(checkpoint, run, candidate, force, unfit=[("RUN as an argument", folder), ("--out", out)])


def _page(folder: Path | None, out: Path | None, unfit: list[tuple[str, object]]) -> None:
    if folder is None:
        raise click.UsageError("RUN is missing: the folder that `quant eval run` made")
    _refuse(unfit, "only with --model-card")
    from quant.eval.report.notebook import render

    click.echo(f"open {render(folder, out=out).resolve()}")


def _card(
    checkpoint: Path, run: Path | None, candidate: str | None, force: bool, unfit: list[tuple[str, object]]
) -> None:
    if run is None:
        raise click.UsageError("--model-card needs --run, the folder that `quant eval run` made")
    _refuse(unfit, "not with --model-card")
    from quant.eval.report.card_files import write_card
    from quant.eval.report.model_card import model_card
    from quant.eval.results.recorded import read
    from quant.files.places import CARD_MARK

    text = model_card(read(run), checkpoint, candidate)
    click.echo(f"wrote {write_card(checkpoint, text, mark=CARD_MARK, force=force)}")


def _refuse(given: list[tuple[str, object]], when: str) -> None:
    for option, value in given:
        if value:
            raise click.UsageError(f"{option}: {when}")
