"""The time of calls that are compared: interleaved, each with a cold L2 cache, by events of the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from quant.eval.bench import timing
from quant.eval.bench.timing import HEAD_START, Run, Timed, Timer

__all__ = ["FEWEST_ROUNDS", "MOST_ROUNDS", "EventTimer", "Run", "Timed", "Timer", "flush_bytes", "interleave"]

FEWEST_ROUNDS, MOST_ROUNDS = 7, 25


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

    def enough(done: int) -> bool:
        return done >= FEWEST_ROUNDS and left() <= 0

    return timing.interleave(runs, timer, rounds=MOST_ROUNDS, warm_ups=warm_ups, seed=seed, enough=enough)


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
        torch.cuda._sleep(HEAD_START)  # type: ignore[no-untyped-call]
        self._flush.zero_()
        begin.record()
        run()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3
