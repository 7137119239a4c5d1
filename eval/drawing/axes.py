"""The frame of a plot as SVG: scales, round ticks, axes with their words as text, and names of points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 540, 384
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 20, 66
#: Room for a letter of a name, generous: a narrow screen has larger ones. A longer name is shortened.
LETTER, _LETTERS = 8.2, 22
#: Baselines below the point (above it where negative): of names left and right of it, and of names over and under it.
_SIDEWAYS = (5, -13, 23, -31, 41, -49, 59)
_ACROSS = (-18, 28, 46, -36, -54, 64, 82)
#: A name farther up or down has a line to its point.
_NEAR = 30

#: left, top, right, bottom
_Box = tuple[float, float, float, float]


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


def labels(texts: Sequence[str], places: Sequence[tuple[float, float]], x: Scale) -> str:
    """A text element for each of `places`, within the plot: where it covers the least, and of such the first tried.

    Tried are right, left, above and below of the point, and then farther away.
    """
    taken: list[_Box] = [(a - 12.0, b - 10.0, a + 12.0, b + 10.0) for a, b in places]
    parts = []
    for text, (across, up) in zip(texts, places, strict=True):
        tries = _tries(across, up, LETTER * len(text), x)
        inside = [each for each in tries if _inside(each[3], x)]
        css, at, base, box = min(inside or tries, key=lambda each: sum(_covered(each[3], other) for other in taken))
        taken.append(box)
        if abs(base - 4 - up) > _NEAR:
            middle = min(max(across, box[0]), box[2])
            end = base + 4 if base < up else base - 12
            parts.append(f'<path class="leader" d="M{across:.1f} {up:.1f}L{middle:.1f} {end:.1f}"/>')
        parts.append(f'<text class="name {css}" x="{at:.1f}" y="{base:.1f}">{escape(text)}</text>')
    return "".join(parts)


def shortened(name: str) -> str:
    """Both ends of a long name, for what tells names apart may be at either."""
    half = (_LETTERS - 1) // 2
    return name if len(name) <= _LETTERS else f"{name[:half]}…{name[-half:]}"


def _tries(across: float, up: float, wide: float, x: Scale) -> list[tuple[str, float, float, _Box]]:
    """Class, x, y and box of each place to try; the nearest first."""
    centred = max(min(across - wide / 2, x.end - wide), x.start)
    found: list[tuple[int, str, float, float, float]] = []
    for below in _SIDEWAYS:
        found.append((abs(below), "", across + 16, up + below, across + 16))
        found.append((abs(below), "end", across - 16, up + below, across - 16 - wide))
    found += [(abs(below), "middle", centred + wide / 2, up + below, centred) for below in _ACROSS]
    found.sort(key=lambda each: each[0])
    return [(css, at, base, (left, base - 12, left + wide, base + 4)) for _, css, at, base, left in found]


def _inside(box: _Box, x: Scale) -> bool:
    return x.start <= box[0] and box[2] <= x.end + 20 and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM


def _covered(one: _Box, other: _Box) -> float:
    """The area that two boxes share."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    return max(wide, 0.0) * max(high, 0.0)
