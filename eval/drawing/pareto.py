"""Quality against speed, or against size where no kernel was timed: one point a model, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence

from quant.eval.drawing.axes import (
    BOTTOM,
    HEIGHT,
    LETTER,
    TOP,
    Scale,
    around,
    frame,
    horizontal,
    labels,
    shortened,
    vertical,
)
from quant.eval.drawing.markup import Piece, colour, escape, mark, note
from quant.eval.metrics.base import Display
from quant.eval.metrics.table import display, leading, metrics
from quant.eval.results import speedup
from quant.eval.results.points import Point, by_peak, frontier, goes_by_size, height, points
from quant.eval.results.recorded import Recorded
from quant.eval.results.words import figure, interval, size

_TITLES = {"step": "one denoising step", "end_to_end": "a whole video"}


def leading_plots(recorded: Recorded) -> list[Piece]:
    """The two plots that say most: of the first two metrics where speed was measured or sizes are all that is known,
    else of the first against size and against estimates.
    """
    first, second = (metric.key for metric in metrics("paired")[:2])
    timed = any(speedup.of_kernels(recorded, model, "step") is not None for model in recorded.candidates)
    if timed or recorded.estimated is None:
        return [pareto(recorded, first), pareto(recorded, second)]
    return [pareto(recorded, first, by_size=True), pareto(recorded, first)]


def pareto(recorded: Recorded, key: str | None = None, stage: str = "step", *, by_size: bool | None = None) -> Piece:
    """Mean `key` (the leading metric) of each candidate against its speedup of `stage` ("step" or "end_to_end").

    An estimate is hollow. Times of reference arithmetic are no kernel's and not shown.

    Args:
        by_size: x is what is stored; None where there is no speedup.
    """
    shown = leading() if key is None else display(key)
    key = shown.key
    by_size = goes_by_size(recorded, stage) if by_size is None else by_size
    found = points(recorded, key, stage, by_size=by_size)
    if not found:
        taken = any(height(model["summary"].get(key)) is not None for model in recorded.candidates)
        why = "neither a time nor a size of a candidate is known" if taken else f"no {shown.title} was taken"
        return Piece(note(f"Nothing to plot: {why}."))
    finite = [value for p in found for value in (p.y, p.low, p.high) if value is not None and math.isfinite(value)]
    y = vertical(*around(finite or [1.0], least=1.0 if shown.unit else 1e-3))
    x = horizontal(*_x_range([point.x for point in found], by_size))
    inner = [_reference_line(x)] if x.low <= 1 <= x.high else []
    joining = _frontier(found, x, y, shown, by_size)
    inner.append(joining)
    largest = max(p.memory or 0 for p in found)
    inner += [_point(point, x, y, largest, shown) for point in found]
    inner.append(labels([_label(point) for point in found], [_at(point, x, y) for point in found], x))
    arrow = "higher is closer" if shown.higher else "lower is closer"
    svg = frame(
        x,
        y,
        x_title=_x_title(recorded, stage, by_size, found),
        y_title=f"{shown.title}{f' ({shown.unit.strip()})' if shown.unit else ''}, {arrow}",
        x_text=(lambda v: f"{v:.0%}") if by_size else (lambda v: f"{v:g}×"),
        y_text=lambda v: f"{v:g}",
        inner="".join(inner),
        label=f"{shown.title} of {len({p.name for p in found})} candidates against "
        + ("their size" if by_size else "their speed"),
    )
    legend = _legend(recorded, found, by_size=by_size, joined=bool(joining))
    plot = f"pareto-{key}{'-size' if by_size else ''}"
    return Piece(f'<figure class="card chart" data-plot="{plot}">{svg}{legend}</figure>')


def _x_range(values: Sequence[float], by_size: bool) -> tuple[float, float]:
    """The range of x, in which the original lies, at 1."""
    low, high = around([*values, 1.0], margin=0.16, least=0.1)
    return (max(low, 0.0), high) if by_size else (max(low, 0.01), high)


def _x_title(recorded: Recorded, stage: str, by_size: bool, found: Sequence[Point]) -> str:
    if by_size:
        return "stored bytes, as a share of the original’s" + ("\nnothing was timed" if recorded.speed is None else "")
    speed = recorded.speed
    if speed is None or all(point.estimated for point in found):
        gpu = "" if recorded.estimated is None else f" for {recorded.estimated['gpu']}"
        return f"speedup of {_TITLES[stage]}\nestimated{gpu}, not measured"
    return f"speedup of {_TITLES[stage]}\nmeasured on {speed['device']['name']}"


def _reference_line(x: Scale) -> str:
    """A line where the original is, with its name on the side that has room."""
    at, name = x(1), "the original"
    left = at + 5 + LETTER * len(name) > x.end
    css, place = ("tick end", at - 5) if left else ("tick", at + 5)
    return (
        f'<line class="original" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="{css}" x="{place:.1f}" y="{HEIGHT - BOTTOM - 8}">{name}</text>'
    )


def _radius(memory: int | None, largest: int) -> float:
    """Area in proportion to memory, but never too small to be seen."""
    return max(4.0, 11 * math.sqrt(memory / largest)) if memory else 7.0


def _at(point: Point, x: Scale, y: Scale) -> tuple[float, float]:
    return x(point.x), TOP + 14 if math.isinf(point.y) else y(point.y)


def _point(point: Point, x: Scale, y: Scale, largest: int, shown: Display) -> str:
    across, up = _at(point, x, y)
    bar = ""
    if point.low is not None and point.high is not None and math.isfinite(point.y):
        low, high = y(point.low), y(point.high)
        bar = (
            f'<path class="interval" d="M{across:.1f} {low:.1f}V{high:.1f}'
            f'M{across - 4:.1f} {low:.1f}h8M{across - 4:.1f} {high:.1f}h8"/>'
        )
    bounds = interval({"low": point.low, "high": point.high}, shown.digits)
    value = figure(point.y, shown) + (f" ({bounds})" if bounds else "")
    words = f"{point.name}: {value}, x {point.x:.3g}, {size(point.memory)}"
    css = "mark hollow" if point.estimated else "mark"
    drawn = mark(point.place, across, up, _radius(point.memory, largest), css)
    return (
        f'<g class="c{colour(point.place)}" data-model="{escape(point.name)}">{bar}{drawn}'
        f"<title>{escape(words)}{', estimated' if point.estimated else ''}</title></g>"
    )


def _frontier(found: Sequence[Point], x: Scale, y: Scale, shown: Display, by_size: bool) -> str:
    """A line through the undominated of those that were measured; estimates are of another machine."""
    best = frontier([point for point in found if not point.estimated], shown, by_size)
    if len(best) < 2:
        return ""
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (_at(point, x, y) for point in best))
    return f'<polyline class="frontier" points="{path}"/>'


def _label(point: Point) -> str:
    text = shortened(point.name) + (", estimated" if point.estimated else "")
    return text + (", identical" if math.isinf(point.y) else "")


def _legend(recorded: Recorded, found: Sequence[Point], *, by_size: bool, joined: bool) -> str:
    area = "peak memory" if by_peak(recorded) else "stored bytes"
    parts = [f"Bars: 95% intervals over samples. Area: {area}."]
    if joined:
        parts.append("Dashes join those that no other candidate beats in both ways.")
    if any(point.estimated for point in found) and recorded.estimated is not None:
        parts.append(
            f"Hollow: estimated for {escape(recorded.estimated['gpu'])}, {escape(recorded.estimated['what'])}."
        )
    if by_size:
        parts.append("Further left is smaller.")
    shown = {point.name for point in found}
    if lacking := [model["name"] for model in recorded.candidates if model["name"] not in shown]:
        parts.append(f"Not shown, for want of a figure: {escape(', '.join(lacking))}.")
    return f"<figcaption>{' '.join(parts)}</figcaption>"
