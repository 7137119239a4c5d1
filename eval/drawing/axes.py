"""The frame of a plot as SVG: scales, round ticks, axes with their words as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 540, 384
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 20, 66


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` on places from `start` to `end`, by their logarithm where `log` says so."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; it may lie outside."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        """Round values within the scale, about five; of a logarithm 1, 2 and 5 of each power of ten."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1,) if len(powers) > 4 else (1, 2, 5)
            found = [float(f"{step}e{power}") for power in powers for step in steps]
        else:
            step = round_step((self.high - self.low) / 5)
            found = [index * step for index in range(math.floor(self.low / step), math.ceil(self.high / step) + 1)]
        return [value for value in found if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]


def round_step(width: float) -> float:
    """The smallest 1, 2 or 5 times a power of ten that is no less than `width`."""
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * (1 - 1e-9))


def around(values: Sequence[float], *, margin: float = 0.14, least: float = 1e-3) -> tuple[float, float]:
    """A range that holds all values with room at both ends; at least `least` wide."""
    low, high = min(values), max(values)
    room = max((high - low) * margin, least / 2)
    return low - room, high + room


def horizontal(low: float, high: float) -> Scale:
    """The scale of x."""
    return Scale(low, high, LEFT, WIDTH - RIGHT)


def vertical(low: float, high: float, *, log: bool = False) -> Scale:
    """The scale of y: upwards."""
    return Scale(low, high, HEIGHT - BOTTOM, TOP, log)


def frame(
    x: Scale,
    y: Scale,
    *,
    x_title: str,
    y_title: str,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    inner: str,
    label: str,
) -> str:
    """A whole SVG with grid, ticks and titles around `inner`.

    Titles are text, so that a page can find and scale them; that of x may have two lines.
    """
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for tick in y.ticks:
        at = y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick end" x="{LEFT - 8}" y="{at + 4:.1f}">{escape(y_text(tick))}</text>')
    for tick in x.ticks:
        at = x(tick)
        parts.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick middle" x="{at:.1f}" y="{bottom + 18}">{escape(x_text(tick))}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    for line, text in enumerate(x_title.split("\n")):
        place = f'x="{(LEFT + right) / 2}" y="{bottom + 40 + 18 * line}"'
        parts.append(f'<text class="title middle" {place}>{escape(text)}</text>')
    middle = (TOP + bottom) / 2
    parts.append(f'<text class="title middle" transform="translate(14 {middle}) rotate(-90)">{escape(y_title)}</text>')
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}{inner}</svg>"
    )
