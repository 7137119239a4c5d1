"""The time of calls that are compared: round by round in a shuffled order, by the device's own clock.

Caches stay as the calls leave them: in a pipeline, too, a block begins with what the one before it left in L2.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from statistics import median
from typing import NamedTuple

import torch

from quant.text import kind_and_line

#: One call of what is measured.
Run = Callable[[], object]
#: The seconds of one call.
Timer = Callable[[Run], float]

#: Clock cycles that the device waits before a call, about a millisecond: longer than a CPU needs to queue a block, so
#: that gaps between its kernels are those of the device and not those of Python.
HEAD_START = 2_000_000


class Timed(NamedTuple):
    """Seconds of every call by name, and for those that raised the reason. A name is in one of both."""

    seconds: dict[str, list[float]]
    failed: dict[str, str]

    def medians(self) -> dict[str, float]:
        """The median of each."""
        return {name: median(values) for name, values in self.seconds.items()}


def interleave(
    runs: Mapping[str, Run],
    timer: Timer,
    *,
    rounds: int = 15,
    warm_ups: int = 3,
    seed: int = 0,
    enough: Callable[[int], bool] = lambda done: False,
) -> Timed:
    """Times all of `runs` in each round: what slows a moment hits all alike, and none always follows the same other.

    Args:
        runs: what to call.
        timer: measures one call.
        rounds: calls of each that are timed.
        warm_ups: calls of each before the first round, which compile it.
        seed: of the order, which is shuffled anew for each round.
        enough: after how many rounds may it stop before `rounds`? Asked after each.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    failed: dict[str, str] = {}

    def attempt(name: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # one that runs out of memory must not take the others with it
            failed[name] = kind_and_line(error)
            del seconds[name]

    for name, run in runs.items():
        for _ in range(warm_ups):
            if name in seconds:
                attempt(name, run)
    order = random.Random(seed)
    for done in range(1, rounds + 1):
        names = list(seconds)
        order.shuffle(names)
        for name in names:
            attempt(name, lambda name=name: seconds[name].append(timer(runs[name])))  # type: ignore[misc]
        if enough(done):
            break
    return Timed(seconds, failed)


def event_timer(run: Run) -> float:
    """Seconds of a call on the current CUDA device, by its events, with the device busy while the call is queued."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda._sleep(HEAD_START)  # type: ignore[no-untyped-call]
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3
