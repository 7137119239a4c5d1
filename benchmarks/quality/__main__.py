"""Measures the quality of every recipe and its rivals on the examples: `make quality`, or with options by hand.

Results go to `benchmarks/results/quality.json` one by one, so an interrupted run goes on where it was. A candidate is
measured again where the conditions, its recipe or its options have changed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from benchmarks.quality.candidates import Candidate
from benchmarks.quality.conditions import Conditions
from benchmarks.quality.results import RESULTS, fresh, read, update
from benchmarks.quality.subjects import SUBJECTS, subject
from benchmarks.quality.worker import judged
from quant.errors import QuantError

CACHE = Path(__file__).parent.parent.parent / "build" / "quality"


@click.command()
@click.option(
    "--example",
    "examples",
    multiple=True,
    type=click.Choice([each.example for each in SUBJECTS]),
    help="May be given often.  [default: all whose model is there]",
)
@click.option("--only", multiple=True, metavar="TEXT", help="Candidates whose name contains it; may be given often.")
@click.option("--clips", type=click.IntRange(1), help="N videos, to try something out.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Candidates measured at a time.")
@click.option("--again", is_flag=True, help="Measure what is there already, too.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default="benchmarks/results/quality.json")
def main(
    examples: tuple[str, ...], only: tuple[str, ...], clips: int | None, jobs: int, again: bool, out: Path
) -> None:
    """Measure every recipe's quality on the examples, and its rivals'."""
    failed: list[str] = []
    for name in examples or [each.example for each in SUBJECTS]:
        try:
            conditions = Conditions.of(subject(name), clips)
        except QuantError as error:
            if examples:
                raise click.ClickException(str(error)) from None
            click.echo(f"{name}: left out: {error}")
            continue
        failed += _measured(conditions, only, clips, jobs, again, out)
    if failed:
        raise click.ClickException(f"{len(failed)} failed: {', '.join(failed)}")


def _measured(
    conditions: Conditions, only: tuple[str, ...], clips: int | None, jobs: int, again: bool, out: Path
) -> list[str]:
    """Measures what is not there of an example, and returns the candidates that failed."""
    name = conditions.subject.example
    original = conditions.original(CACHE)
    update(out, conditions, "original", {"judged": judged(original, conditions)})
    every = conditions.subject.candidates
    wanted = [each for each in every if not only or any(text in each.key for text in only)]
    todo = [each for each in wanted if again or not fresh(read(name, out), each, conditions)]
    click.echo(f"{name}: {len(todo)} of {len(wanted)} candidates to measure")
    failed: list[str] = []

    def run(candidate: Candidate) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "found.json"
            command = [sys.executable, "-m", "benchmarks.quality.worker", name, candidate.key, str(found), str(CACHE)]
            done = subprocess.run([*command, str(clips or 0)], capture_output=True, text=True, check=False)
            if done.returncode:
                failed.append(f"{name}, {candidate.key}")
                click.echo(f"{candidate.key}: failed\n{done.stderr[-2000:]}", err=True)
                return
            body = json.loads(found.read_text(encoding="utf-8"))
        update(out, conditions, candidate.key, {"options": dict(candidate.options), **body})
        finite = [value for value in body["psnr"] if value is not None]
        click.echo(
            f"{candidate.key}: {sum(finite) / len(finite):.2f} dB, worst {min(finite):.2f}; "
            f"made in {body['making_seconds']:.0f} s, peak {body['making_peak_bytes'] / 1e6:.0f} MB"
        )

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(run, todo))
    return failed


if __name__ == "__main__":
    main()
