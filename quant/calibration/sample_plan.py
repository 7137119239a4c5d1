"""Which steps of which inputs are recorded: few, far apart, and as many of each part of the schedule.

Calls of neighbouring steps of one input say nearly the same, and whatever is recorded of an input, all steps before it
have to be run. So 32 steps are taken of 8 inputs, 4 of each: of 50 steps, 12 apart. They are strata: the schedule is
cut into as many equal parts as there are samples, the middle of each is recorded once, and the inputs take turns. Each
denoiser has a plan of its own over the steps at which it is called, and all prefer the same inputs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

#: Steps of one input: at most so many of a denoiser, and at least so far apart.
_OF_ONE, _APART = 4, 4


@dataclass(frozen=True)
class Parts:
    """Some of the equal parts that a schedule is cut into.

    Attributes:
        chosen: their numbers, rising.
        count: of all parts.
    """

    chosen: tuple[int, ...]
    count: int

    def steps(self, steps: int) -> list[int]:
        """The steps in the middle of the parts, of a schedule that has so many; rising, none twice."""
        return sorted({(2 * part + 1) * steps // (2 * self.count) for part in self.chosen}) if steps else []


def row_order(rows: int, seed: int) -> list[int]:
    """The inputs in the order in which they are taken, the same with every release of Python."""
    return sorted(range(rows), key=lambda row: hashlib.sha256(f"{seed} {row}".encode()).digest())


def sample_plan(steps: Mapping[str, int], rows: int, count: int, seed: int) -> dict[int, dict[str, Parts]]:
    """What is recorded of which input.

    Args:
        steps: at how many steps of an input each denoiser is called.
        rows: how many inputs there are.
        count: how many steps are wanted of each denoiser. There are fewer where all inputs together have no more.
        seed: decides which inputs are taken, and which of them has which parts.

    Returns:
        input -> denoiser -> parts of the schedule of that denoiser, the inputs in order. Steps of one input are at
        least 4 apart, unless there are so few inputs or steps that it cannot be.
    """
    order = row_order(rows, seed)
    plan: dict[int, dict[str, Parts]] = {}
    for component, length in steps.items():
        wanted = min(count, rows * length)
        if not wanted:
            continue
        of_one = max(1, min(_OF_ONE, length // _APART))
        used = min(rows, -(-wanted // of_one))
        for turn, row in enumerate(order[:used]):
            plan.setdefault(row, {})[component] = Parts(tuple(range(turn, wanted, used)), wanted)
    return {row: plan[row] for row in sorted(plan)}
