"""The steps of the command, one after the other: a failed one is remembered and the next one runs."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import click

from benchmarks.gpu.entries import first_line

PASSED, FAILED, NOT_RUN = "passed", "failed", "did not run"


class Outcome(NamedTuple):
    """How a step ended: `PASSED`, `FAILED` or `NOT_RUN`, and what there is to say about it in a line."""

    status: str
    says: str


class Step(NamedTuple):
    """One thing the command does.

    Attributes:
        name: for `--only`.
        does: what, in a line.
        run: does it.
    """

    name: str
    does: str
    run: Callable[[], Outcome]


@dataclass(frozen=True)
class Done:
    """A step that was tried."""

    name: str
    status: str
    says: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"name": self.name, "status": self.status, "says": self.says, "seconds": round(self.seconds, 1)}


def run_steps(steps: Sequence[Step], done: list[Done], clock: Callable[[], float] = time.monotonic) -> None:
    """Runs every step and adds how it ended to `done`, which later steps may read. Never raises for what a step did."""
    for step in steps:
        click.echo(f"\n== {step.name}: {step.does}")
        begin = clock()
        try:
            outcome = step.run()
        except Exception as error:  # whatever it was, the steps after it are still worth running
            traceback.print_exc()
            outcome = Outcome(FAILED, first_line(error))
        done.append(Done(step.name, *outcome, clock() - begin))
        click.echo(f"== {step.name} {outcome.status} after {done[-1].seconds:.1f} s: {outcome.says}")


def summary(done: Sequence[Done]) -> str:
    """A line for each step, aligned."""
    width = max((len(each.name) for each in done), default=0)
    return "\n".join(f"{each.name:{width}}  {each.status:11}  {each.seconds:6.1f} s  {each.says}" for each in done)
