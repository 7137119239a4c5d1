"""One verdict of all metrics together, and the levels that were judged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from quant.eval.results.recorded import Recorded


class Overall(NamedTuple):
    """A verdict, the keys of the metrics that have it, and how many metrics were judged."""

    verdict: str
    metrics: tuple[str, ...]
    judged: int


def overall(model: Mapping[str, Any], level: float) -> Overall | None:
    """The verdict at a level; None without any. One that fails decides, else one that has too few samples."""
    found = [entry for entry in model["verdicts"] if entry["level"] == level]
    for verdict in ("fail", "not enough samples", "pass"):
        metrics = tuple(entry["metric"] for entry in found if entry["verdict"] == verdict)
        if metrics:
            return Overall(verdict, metrics, len(found))
    return None


def levels(recorded: Recorded) -> list[float]:
    """The levels that were judged, the coarsest first."""
    return sorted({entry["level"] for model in recorded.candidates for entry in model["verdicts"]}, reverse=True)
