"""A strip of dots on a shared axis: one dot a clip, so that a mean does not hide the worst ones."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from quant.eval.metrics.paired import summarize
from quant.eval.report.table import decibels

_WIDTH, _HEIGHT, _MARGIN = 190, 30, 8


@dataclass(frozen=True)
class Axis:
    """Whole multiples of `step` dB from `low` to `high`. Identical clips are drawn at `high`."""

    low: int
    high: int
    step: int

    def x(self, value: float) -> float:
        """The place of `value` in pixels from the left edge."""
        share = (min(value, self.high) - self.low) / (self.high - self.low)
        return _MARGIN + share * (_WIDTH - 2 * _MARGIN)

    @property
    def ticks(self) -> range:
        return range(self.low, self.high + 1, self.step)


def axis(values: Sequence[float]) -> Axis:
    """An axis that holds every finite value of `values`, with a few ticks."""
    finite = [value for value in values if math.isfinite(value)] or [40.0]
    step = 5 if max(finite) - min(finite) <= 25 else 10
    low, high = math.floor(min(finite) / step) * step, math.ceil(max(finite) / step) * step
    return Axis(low, high if high > low else low + step, step)


def axis_svg(scale: Axis) -> str:
    """The labels of the axis."""
    labels = "".join(f'<text x="{scale.x(tick):.1f}" y="24">{tick}</text>' for tick in scale.ticks)
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" aria-hidden="true">{labels}</svg>'


def strip_svg(scale: Axis, values: Sequence[float], labels: Sequence[str], name: str) -> str:
    """One dot a value, each a link to its clip, and a bar at the mean."""
    middle = _HEIGHT / 2
    grid = "".join(
        f'<line x1="{scale.x(tick):.1f}" x2="{scale.x(tick):.1f}" y1="2" y2="{_HEIGHT - 2}"/>' for tick in scale.ticks
    )
    dots = "".join(
        f'<a href="#clip-{index}" tabindex="-1"><circle cx="{scale.x(value):.1f}" cy="{middle}" r="4.5">'
        f"<title>{decibels(value)}: {escape(label)}</title></circle></a>"
        for index, (value, label) in enumerate(zip(values, labels, strict=True))
    )
    found = summarize(values)
    mean = (
        f'<line class="mean" x1="{scale.x(found.mean):.1f}" x2="{scale.x(found.mean):.1f}" y1="4" y2="{_HEIGHT - 4}"/>'
    )
    label = escape(
        f"{name}: from {decibels(min(values))} to {decibels(max(values))}, mean {decibels(found.mean)}", quote=True
    )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">{grid}{mean}{dots}</svg>'
