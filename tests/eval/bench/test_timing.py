"""Rounds, with a timer that tests set, and the order of events on a device."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quant.eval.bench.timing import Timed, event_timer, interleave


def test_every_round_times_all_in_an_order_of_its_own() -> None:
    called: list[str] = []
    timed: list[str] = []

    def timer(run: Any) -> float:
        run()
        timed.append(called[-1])
        return float(len(timed))

    runs = {name: (lambda name=name: called.append(name)) for name in "abc"}
    found = interleave(runs, timer, rounds=20, warm_ups=2)
    assert called[:6] == ["a", "a", "b", "b", "c", "c"]
    rounds = [timed[i : i + 3] for i in range(0, 60, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    assert {name: len(values) for name, values in found.seconds.items()} == {"a": 20, "b": 20, "c": 20}
    for name, values in found.seconds.items():
        assert [timed[int(second) - 1] for second in values] == [name] * 20
    assert found.failed == {}


@pytest.mark.parametrize("good_calls", [0, 5])
def test_one_that_fails_takes_no_other_with_it(good_calls: int) -> None:
    calls = 0

    def breaks() -> None:
        nonlocal calls
        calls += 1
        if calls > good_calls:
            raise RuntimeError("out of memory\nand much more")

    found = interleave({"bad": breaks, "good": lambda: None}, lambda run: (run(), 1.0)[1], rounds=4)
    assert found.failed == {"bad": "RuntimeError: out of memory"}
    assert found.seconds == {"good": [1.0] * 4}
    assert calls == good_calls + 1


def test_the_middle_of_the_rounds() -> None:
    assert Timed({"a": [3.0, 1.0, 100.0], "b": [2.0, 4.0]}, {}).medians() == {"a": 3.0, "b": 3.0}


def test_a_device_is_kept_busy_while_the_call_is_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing
            self.name = f"event {sum(each.startswith('made') for each in done)}"
            done.append(f"made {self.name}")

        def record(self) -> None:
            done.append(f"record {self.name}")

        def synchronize(self) -> None:
            done.append(f"wait for {self.name}")

        def elapsed_time(self, end: Event) -> float:
            done.append(f"from {self.name} to {end.name}")
            return 12.5

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: done.append("sleep"))
    assert event_timer(lambda: done.append("run")) == 0.0125
    assert done[2:] == [
        "sleep",
        "record event 0",
        "run",
        "record event 1",
        "wait for event 1",
        "from event 0 to event 1",
    ]
