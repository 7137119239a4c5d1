"""The time of calls that are compared: interleaved, each with a cold L2 cache, by events of the device."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch

from benchmarks.gpu.entries import first_line

#: One call of what is measured.
Run = Callable[[], object]
#: The seconds of one call.
Timer = Callable[[Run], float]

FEWEST_ROUNDS, MOST_ROUNDS = 7, 25
#: Clock cycles that the device waits before a call, about a millisecond: longer than a CPU needs to queue the call, so
#: that gaps between its kernels are those of the device and not those of Python.
_HEAD_START = 2_000_000


class Timed(NamedTuple):
    """Seconds of every call by name, and for those that raised the reason. A name is in one of both."""

    seconds: dict[str, list[float]]
    failed: dict[str, str]


def interleave(
    runs: Mapping[str, Run], timer: Timer, left: Callable[[], float], *, seed: int = 0, warm_ups: int = 2
) -> Timed:
    """Times all of `runs` round by round: what slows a moment hits all alike, and none always follows the same other.

    Args:
        runs: what to call.
        timer: measures one call.
        left: seconds left; looked at after each round, from `FEWEST_ROUNDS` on.
        seed: of the order, which is shuffled anew for each round.
        warm_ups: calls of each before the first round, not timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    failed: dict[str, str] = {}

    def attempt(name: str, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:
            failed[name] = first_line(error)
            del seconds[name]

    for name, run in runs.items():
        for _ in range(warm_ups):
            if name in seconds:
                attempt(name, run)
    order = random.Random(seed)
    for done in range(1, MOST_ROUNDS + 1):
        names = list(seconds)
        order.shuffle(names)
        for name in names:
            attempt(name, lambda name=name: seconds[name].append(timer(runs[name])))  # type: ignore[misc]
        if done >= FEWEST_ROUNDS and left() <= 0:
            break
    return Timed(seconds, failed)


def flush_bytes(l2_bytes: int) -> int:
    """How much to write so that nothing else stays in an L2 cache of this size: four times it, at least 128 MiB."""
    return max(4 * l2_bytes, 128 * 2**20)


class EventTimer:
    """Times a call on a CUDA device, from a cold L2 cache, with the device busy while the call is queued."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        l2_bytes = torch.cuda.get_device_properties(device).L2_cache_size
        self._flush = torch.empty(flush_bytes(l2_bytes), dtype=torch.int8, device=device)

    def __call__(self, run: Run) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(_HEAD_START)  # type: ignore[no-untyped-call]
        self._flush.zero_()
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
