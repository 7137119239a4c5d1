"""Candidates as points: a metric against speed, or against size where no kernel was timed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quant.eval.metrics.base import Display
from quant.eval.results import speedup
from quant.eval.results.recorded import Recorded


@dataclass(frozen=True)
class Point:
    """One model in the plot.

    Attributes:
        name, place: of the model, and its number.
        x: speedup, or the share of the original's bytes.
        y, low, high: the mean of the metric and its interval; y infinite where all videos are identical.
        memory: bytes that the area stands for; None where they are not known.
        estimated: x was predicted, not taken.
    """

    name: str
    place: int
    x: float
    y: float
    low: float | None
    high: float | None
    memory: int | None
    estimated: bool = False


def points(recorded: Recorded, key: str, stage: str, *, by_size: bool | None = None) -> list[Point]:
    """What is plotted, measured before estimated. Candidates without the metric, or without an x, are left out."""
    by_size = goes_by_size(recorded, stage) if by_size is None else by_size
    found = []
    for model in recorded.candidates:
        summary = model["summary"].get(key)
        y = height(summary)
        if summary is None or y is None:
            continue
        rest = (y, summary.get("low"), summary.get("high"), _memory(recorded, model))
        place = recorded.place(model)
        if by_size:
            stored, whole = model["stored_bytes"], recorded.original["stored_bytes"]
            if stored is not None and whole:
                found.append(Point(model["name"], place, stored / whole, *rest))
            continue
        if (taken := speedup.of_kernels(recorded, model, stage)) is not None:
            found.append(Point(model["name"], place, taken, *rest))
        if stage == "step" and (predicted := speedup.estimated(recorded, model)) is not None:
            found.append(Point(model["name"], place, predicted, *rest, estimated=True))
    return sorted(found, key=lambda point: point.estimated)


def frontier(found: Sequence[Point], shown: Display, by_size: bool) -> list[Point]:
    """Those that no other of them beats in both ways, from left to right."""

    def gain(point: Point) -> tuple[float, float]:
        return (-point.x if by_size else point.x), (point.y if shown.higher else -point.y)

    best = [
        point
        for point in found
        if not any(
            gain(other) != gain(point) and all(a >= b for a, b in zip(gain(other), gain(point), strict=True))
            for other in found
        )
    ]
    return sorted(best, key=lambda point: point.x)


def goes_by_size(recorded: Recorded, stage: str) -> bool:
    """Is x what is stored, since no candidate's speed was measured or estimated?"""
    return not any(_timed(recorded, model, stage) for model in recorded.candidates)


def _timed(recorded: Recorded, model: Mapping[str, Any], stage: str) -> bool:
    taken = speedup.of_kernels(recorded, model, stage) is not None
    return taken or (stage == "step" and speedup.estimated(recorded, model) is not None)


def height(summary: Mapping[str, Any] | None) -> float | None:
    """A metric's mean; infinite where all videos are identical, None where it was not taken."""
    if summary is None:
        return None
    if summary.get("value") is not None:
        return float(summary["value"])
    return math.inf if summary.get("identical") else None


def by_peak(recorded: Recorded) -> bool:
    """Does the area stand for peak memory? So it does where every candidate has one; else for what is stored."""
    return all(speedup.memory(recorded, model) for model in recorded.candidates)


def _memory(recorded: Recorded, model: Mapping[str, Any]) -> int | None:
    stored: int | None = model["stored_bytes"]
    return speedup.memory(recorded, model) if by_peak(recorded) else stored
