"""What the kernels for 2:4 and 4-bit weights are to reach, and what of it a run reached."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.gpu.contestants import BASELINE, FORMATS
from benchmarks.gpu.weights import four_bits_of_bf16

Body = Mapping[str, Any]
#: Of bare matmuls: what is quantized around them is the same for all.
_MODE = "bare"
#: Of the contestants that are compared with: our own kernels, those of libraries, or the bf16 layer alone.
_OURS, _LIBRARIES, _BF16 = "our own kernel", "the best of a library", "torch's bf16"
#: The largest part of bf16's bytes that a 4-bit weight may take.
MEMORY = 0.30
#: Of a goal without a largest number of rows.
_NO_END = 2**62


class Goal(NamedTuple):
    """How many times as fast as something else the best of our kernels of a format is to be.

    Attributes:
        format_name: of our kernels, a key of `FORMATS`.
        least: so many times as fast.
        of: format of what it is compared with.
        against: whose.
        m_at_least, m_at_most: rows of the shapes that it is about.
    """

    format_name: str
    least: float
    of: str
    against: str
    m_at_least: int = 0
    m_at_most: int = _NO_END

    @property
    def says(self) -> str:
        """What it is compared with, and at which rows."""
        what = self.against if self.against == _BF16 else f"{self.against} of dense {FORMATS[self.of].label}"
        if self.m_at_most < _NO_END:
            return f"{what}, M <= {self.m_at_most}"
        return f"{what}, M >= {self.m_at_least}"


GOALS = (
    *(Goal(f"2:4 {name}", 1.35, name, against, 8192) for name in ("int8", "fp8") for against in (_OURS, _LIBRARIES)),
    Goal("2:4 bf16", 1.35, "bf16", _LIBRARIES, 8192),
    Goal("w4a16", 0.95, "bf16", _BF16, 4096),
    Goal("w4a16", 3.0, "bf16", _BF16, 0, 16),
    Goal("w4a8", 1.3, "bf16", _BF16, 4096),
)


def reached(goal: Goal, shapes: Iterable[Body]) -> list[float]:
    """How many times as fast the best of ours was, on each shape of the goal on which both were timed."""
    found = []
    for shape in shapes:
        if goal.m_at_least <= shape["m"] <= goal.m_at_most:
            ours = _fastest(shape, goal.format_name, _OURS)
            other = _fastest(shape, goal.of, goal.against)
            if ours is not None and other is not None:
                found.append(other / ours)
    return found


def rows(shapes: Sequence[Body]) -> list[tuple[str, str, str, str, str]]:
    """Format, goal, what was reached, on how many shapes, and the verdict; the last is of memory."""
    found = []
    for goal in GOALS:
        ratios = reached(goal, shapes)
        met = sum(ratio >= goal.least for ratio in ratios)
        if not ratios:
            span, verdict = "", "not measured"
        else:
            mean = statistics.geometric_mean(ratios)
            span = f"{min(ratios):.2f}x to {max(ratios):.2f}x, mean {mean:.2f}x"
            verdict = "met" if met == len(ratios) else "missed" if not met else f"met on {met}"
        aim = f"{goal.least:.2f}x of {goal.says}"
        found.append((FORMATS[goal.format_name].label, aim, span, str(len(ratios)), verdict))
    parts = [four_bits_of_bf16(shape["n"], shape["k"]) for shape in shapes]
    if parts:
        span = f"at most {max(parts):.3f}x, counted and not measured"
        aim = f"weight memory of at most {MEMORY:.2f}x of bf16"
        found.append(("INT4", aim, span, str(len(parts)), "met" if max(parts) <= MEMORY else "missed"))
    return found


def _fastest(shape: Body, format_name: str, whose: str) -> float | None:
    """Seconds of the fastest that was right; None where none was timed."""
    seconds = [
        each["seconds"]["median"]
        for each in shape["contestants"]
        if (each["format"], each["mode"]) == (format_name, _MODE)
        and each["seconds"] is not None
        and _is(each["name"], whose)
    ]
    return min(seconds, default=None)


def _is(name: str, whose: str) -> bool:
    if whose == _BF16:
        return name == BASELINE
    return name.startswith("quant ") == (whose == _OURS)
