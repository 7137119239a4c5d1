"""Time is shared out, and a compilation begins only where it would end in time."""

from __future__ import annotations

from benchmarks.gpu.budget import Budget, Purse


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_slots_share_what_is_left() -> None:
    clock = Clock()
    budget = Budget(100.0, clock)
    clock.now = 20.0
    assert budget.left() == 80.0
    slot = budget.slot(3, reserved=20.0)
    assert slot.left() == 20.0
    clock.now = 45.0
    assert slot.left() == -5.0
    slot.extend(7.0)
    assert slot.left() == 2.0
    assert budget.left() == 55.0
    assert budget.slot(0).left() == 55.0


def test_a_compilation_is_refused_by_the_longest_of_its_kind() -> None:
    purse = Purse(60.0, {"a": 40.0, "b": 5.0})
    assert purse.refusal("a") is None
    purse.spend("a", 10.0)  # the guess was too high
    assert purse.left == 50.0
    assert purse.refusal("a") is None
    purse.spend("a", 30.0)
    purse.spend("a", 3.0)
    assert purse.left == 17.0
    assert purse.refusal("a") == "no time to compile: 17 of 60 s are left for it, and a takes about 30 s"
    assert purse.refusal("b") is None
