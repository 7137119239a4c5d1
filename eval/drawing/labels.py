"""Names beside the points of a plot, each where it lies on no other name and no point."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from quant.eval.drawing.axes import BOTTOM, HEIGHT, Scale

#: Room for a letter of a name, generous: a narrow screen has larger ones. A longer name is shortened.
LETTER, _LETTERS = 8.2, 22
#: Baselines below the point (above it where negative): of names beside it, and of names over and under it.
_BESIDE = (5, -13, 23, -31, 41, -49, 59)
_ACROSS = (-18, 28, 46, -36, -54, 64, 82)
#: A name farther up or down has a line to its point.
_NEAR = 30

#: left, top, right, bottom
_Box = tuple[float, float, float, float]


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
    for below in _BESIDE:
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
