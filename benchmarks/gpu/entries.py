"""What became of one contestant on one shape: timed, or the reason why not."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: Ways to end other than "timed": it says it can't; it raised; its numbers are wrong; there was no time for it.
OUTCOMES = ("timed", "refused", "failed", "wrong", "skipped")


@dataclass(frozen=True)
class Spread:
    """Seconds of one call, over `rounds` calls."""

    median: float
    minimum: float
    maximum: float
    rounds: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Of measured calls; raises ValueError where there are none."""
        if not seconds:
            raise ValueError("nothing was measured")
        return cls(statistics.median(seconds), min(seconds), max(seconds), len(seconds))


@dataclass(frozen=True)
class Entry:
    """One contestant on one shape.

    Attributes:
        name: of the contestant.
        format: a key of `contestants.FORMATS`.
        mode: what a call holds: "bare" or "used" for a matmul, "plain" or "norm" for rows.
        outcome: one of `OUTCOMES`.
        reason: why it was not timed.
        relative_error: of its result on sampled rows, |out - exact| / |exact|; None where it gave none.
        seconds: of a call, where it was timed.
    """

    name: str
    format: str
    mode: str
    outcome: str
    reason: str | None = None
    relative_error: float | None = None
    seconds: Spread | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, which has no nan."""
        error = self.relative_error
        return {**asdict(self), "relative_error": error if error is not None and math.isfinite(error) else None}


def first_line(error: BaseException) -> str:
    """The type of an error and the first line of what it says."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said[:300]}" if said else type(error).__name__
