"""Some calls' seconds in a few figures."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, 90th percentile and coefficient of variation of some seconds, and all of them.

    The percentile lies between two values where none is at its place (R. J. Hyndman, Y. Fan, "Sample quantiles in
    statistical packages", 1996, definition 7: NumPy's own). The coefficient of variation is the sample's standard
    deviation (N - 1) by the mean.

    Args:
        seconds: of each call; may be empty, where a pipeline has no such stage.

    Returns:
        {"median", "p90", "cv", "n", "seconds"}; None for what so few values do not have.
    """
    values = [float(value) for value in seconds]
    many = len(values) > 1
    mean = statistics.fmean(values) if values else 0.0
    return {
        "median": statistics.median(values) if values else None,
        "p90": _percentile(values, 0.9) if values else None,
        "cv": statistics.stdev(values) / mean if many and mean > 0 else None,
        "n": len(values),
        "seconds": values,
    }


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
