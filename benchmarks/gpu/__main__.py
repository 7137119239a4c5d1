"""`python -m benchmarks.gpu`, or `make gpu`: checks and measures everything on the GPU that is here."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from benchmarks.gpu.budget import Budget
from benchmarks.gpu.steps import FAILED, NOT_RUN, PASSED, Done, Outcome, Step, run_steps, summary

NAMES = ("facts", "compile", "tests", "sanitizer", "bench", "videos", "write")
#: The most that the first steps take of all the time; what they leave is the benchmark's.
SHARES = {"compile": 0.12, "tests": 0.3, "sanitizer": 0.25, "videos": 0.12}
#: Of the tests, where pytest can share them out; each has a context on the GPU and a compiler of its own.
MOST_WORKERS = 8
#: Seconds that the benchmark gets beyond its own limit, to end the call it is in, and that writing takes.
GRACE = 20.0


def unusable() -> str | None:
    """Why no GPU can be used here, in words; None where one can."""
    try:
        import torch

        from quant.kernels.runtime import availability
    except ImportError as error:
        return f"{error.name or 'a package'} cannot be imported ({error})"
    return availability.reason(torch.device("cuda", torch.cuda.current_device() if torch.cuda.is_available() else 0))


class Session:
    """One run of the command: its steps, and what they leave for each other."""

    def __init__(self, work: Path, budget: Budget, *, quick: bool, wanted: Sequence[str]) -> None:
        self._work, self._budget, self._quick, self._wanted = work, budget, quick, wanted
        self._facts: dict[str, Any] = {}
        self._clocks: dict[str, float | None] | None = None
        self.done: list[Done] = []

    def steps(self) -> list[Step]:
        """Those that are wanted, in their order; the facts are always found out."""
        all_steps = (
            Step("facts", "what is measured on", self._gather),
            Step("compile", "what the steps after the tests launch, on every core", self._compile),
            Step("tests", "golden vectors, and kernels against their references: pytest tests/gpu", self._test),
            Step("sanitizer", "compute-sanitizer over every kernel on a small ragged shape", self._sanitize),
            Step("bench", "speed against rivals", self._bench),
            Step("videos", "the example's videos on the GPU against the CPU's", self._videos),
            Step("write", "benchmarks/results and the table of benchmarks/README.md", self._write),
        )
        return [step for step in all_steps if step.name == "facts" or step.name in self._wanted]

    def _gather(self) -> Outcome:
        import torch

        from benchmarks.gpu import facts

        self._facts = facts.gather(torch.device("cuda", torch.cuda.current_device()))
        self._clocks = facts.clocks(self._facts["device"]["uuid"])
        click.echo(json.dumps({**self._facts, "clocks": self._clocks}, indent=1))
        return Outcome(PASSED, self._facts["device"]["name"])

    def _compile(self) -> Outcome:
        module = ["benchmarks.gpu.compiling", *(["--quick"] * self._quick)]
        return self._child("compiling", module, self._limit("compile"))

    def _test(self) -> Outcome:
        # Conftests above ask for packages that a machine with a GPU may lack.
        options = ["--confcutdir=tests/gpu", "-p", "no:cacheprovider", "-q", "--durations=5"]
        cores = os.cpu_count() or 1
        workers = min(MOST_WORKERS, cores)
        env = {}
        if workers > 1 and find_spec("xdist") is not None:
            options += [f"--numprocesses={workers}", "--dist=loadgroup"]
            env = {"OMP_NUM_THREADS": str(max(cores // workers, 1))}
        return self._child("tests", ["pytest", "tests/gpu", *options], self._limit("tests"), env)

    def _sanitize(self) -> Outcome:
        from benchmarks.gpu import sanitizer

        return sanitizer.check(self._limit("sanitizer"))

    def _bench(self) -> Outcome:
        there = "videos" in self._wanted and find_spec("diffusers") is not None
        kept = SHARES["videos"] * self._budget.seconds if there else 0.0
        seconds = self._budget.left() - kept - GRACE
        if seconds <= 0:
            return Outcome(FAILED, "no time is left for it: give more --minutes, or --only bench,write")
        options = ["--out", str(self._work / "bench.json"), "--seconds", str(seconds)]
        return self._child(
            "the benchmark", ["benchmarks.gpu.bench", *options, *(["--quick"] * self._quick)], seconds + GRACE
        )

    def _videos(self) -> Outcome:
        if find_spec("diffusers") is None:
            return Outcome(NOT_RUN, "diffusers is not installed")
        limit = min(SHARES["videos"] * self._budget.seconds, self._budget.left() - GRACE / 2)
        return self._child("it", ["benchmarks.gpu.videos", "--out", str(self._work / "videos.json")], limit)

    def _write(self) -> Outcome:
        from benchmarks import readme
        from benchmarks.gpu import facts, results
        from benchmarks.gpu.bench import write_json

        measured, videos = self._read("bench.json"), self._read("videos.json")
        if measured is None:
            return Outcome(NOT_RUN, "nothing was measured, so nothing is written")
        clocks = (self._clocks, facts.clocks(self._facts["device"]["uuid"]))
        steps = [each.to_dict() for each in self.done]
        path = results.path(self._facts["device"]["name"], results.FOLDER)
        path.parent.mkdir(exist_ok=True)
        write_json(results.assembled(self._facts, clocks, measured, videos, steps, quick=self._quick), path)
        readme.write(readme.GPU_README)
        return Outcome(PASSED, f"wrote {path} and {readme.GPU_README}")

    def _limit(self, step: str) -> float:
        return min(SHARES[step] * self._budget.seconds, self._budget.left())

    def _child(self, what: str, module: Sequence[str], seconds: float, env: Mapping[str, str] | None = None) -> Outcome:
        from benchmarks.gpu import child

        done = child.run([sys.executable, "-m", *module], seconds, env=env)
        if done.status is None:
            return Outcome(FAILED, f"{what} took over {seconds:.0f} s and was stopped")
        last = next((line.strip() for line in reversed(done.lines) if line.strip()), "no output")
        return Outcome(PASSED if done.status == 0 else FAILED, last)

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self._work / name
        if not path.is_file():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def run(wanted: Sequence[str], minutes: float, *, quick: bool, find: Callable[[], str | None] = unusable) -> int:
    """The exit status of the command: 0 where no step failed.

    Args:
        wanted: names of steps.
        minutes: for all of them.
        quick: a small benchmark.
        find: says why no GPU is usable.
    """
    reason = find()
    if reason is not None:
        click.echo(f"No GPU is usable here: {reason}.\nNOTHING WAS MEASURED, and no file was written.")
        return 1
    budget = Budget(minutes * 60)
    with tempfile.TemporaryDirectory() as work:
        session = Session(Path(work), budget, quick=quick, wanted=wanted)
        run_steps(session.steps(), session.done)
    click.echo(f"\n{summary(session.done)}\n{budget.seconds - budget.left():.0f} of {budget.seconds:.0f} s")
    return 1 if any(each.status == FAILED for each in session.done) else 0


@click.command(help=__doc__)
@click.option("--minutes", type=click.FloatRange(min=0.5), default=7.5, show_default=True, help="Time for all of it.")
@click.option("--only", type=click.Choice(NAMES), multiple=True, help="Only this step; may be repeated.")
@click.option("--quick", is_flag=True, help="Measure five shapes only.")
def main(minutes: float, only: Sequence[str], quick: bool) -> None:
    sys.exit(run(only or NAMES, minutes, quick=quick))


if __name__ == "__main__":
    main()
