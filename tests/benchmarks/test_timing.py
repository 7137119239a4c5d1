"""Contestants are timed round by round, and one that raises leaves without ending the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from benchmarks.gpu.entries import Spread
from benchmarks.gpu.timing import FEWEST_ROUNDS, MOST_ROUNDS, Run, flush_bytes, interleave


class Log:
    """Notes which calls ran and which of them were timed."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.timed: list[str] = []

    def call(self, name: str) -> Callable[[], None]:
        return lambda: self.ran.append(name)

    def timer(self, run: Run) -> float:
        run()
        self.timed.append(self.ran[-1])
        return float(len(self.timed))


def half_a_second(run: Run) -> float:
    run()
    return 0.5


def test_every_round_runs_each_once_in_changing_order() -> None:
    log = Log()
    found = interleave({name: log.call(name) for name in "abc"}, log.timer, lambda: 1.0, warm_ups=2)
    assert log.ran[:6] == list("aabbcc")
    rounds = [tuple(log.timed[i : i + 3]) for i in range(0, len(log.timed), 3)]
    assert len(rounds) == MOST_ROUNDS
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len(set(rounds)) > 3
    assert Counter(each[0] for each in rounds).keys() == set("abc")
    assert not found.failed
    assert {name: len(times) for name, times in found.seconds.items()} == dict.fromkeys("abc", MOST_ROUNDS)


def test_the_order_is_the_same_for_the_same_seed() -> None:
    logs = [Log(), Log(), Log()]
    for log, seed in zip(logs, (5, 5, 6), strict=True):
        interleave({name: log.call(name) for name in "abcd"}, log.timer, lambda: 1.0, seed=seed)
    assert logs[0].timed == logs[1].timed != logs[2].timed


def test_time_ends_rounds_but_not_before_the_fewest() -> None:
    log = Log()
    interleave({"a": log.call("a")}, log.timer, lambda: -1.0)
    assert len(log.timed) == FEWEST_ROUNDS
    left: Iterator[float] = iter([2.0, 1.0, 0.0])
    log = Log()
    interleave({"a": log.call("a")}, log.timer, lambda: next(left))
    assert len(log.timed) == FEWEST_ROUNDS + 2


def test_one_that_raises_is_named_with_the_first_line() -> None:
    calls = 0

    def later() -> None:
        nonlocal calls
        calls += 1
        if calls > 4:
            raise RuntimeError("CUDA error: made up\nand a page of advice")

    def at_once() -> None:
        raise ValueError

    runs = {"a": lambda: None, "later": later, "at once": at_once}
    found = interleave(runs, half_a_second, lambda: 0.0)
    assert found.failed == {"at once": "ValueError", "later": "RuntimeError: CUDA error: made up"}
    assert found.seconds == {"a": [0.5] * FEWEST_ROUNDS}


@pytest.mark.parametrize("l2", [0, 6 * 2**20, 50 * 2**20, 126 * 2**20])
def test_more_is_flushed_than_the_cache_holds(l2: int) -> None:
    assert flush_bytes(l2) >= max(4 * l2, 2**27)


def test_a_spread_has_the_median_and_not_the_mean() -> None:
    assert Spread.of([1.0, 100.0, 2.0]) == Spread(2.0, 1.0, 100.0, 3)
    assert Spread.of([1.0, 2.0]).median == 1.5
    with pytest.raises(ValueError, match="nothing was measured"):
        Spread.of([])
