"""Time that may be spent, by a clock that tests can set."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


class Budget:
    """Seconds from now on."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Seconds left; negative where it is overdrawn."""
        return self._end - self._clock()

    def extend(self, seconds: float) -> None:
        """Adds time that is paid for from elsewhere."""
        self._end += seconds

    def slot(self, waiting: int, reserved: float = 0.0) -> Budget:
        """An equal part of what is left for each of `waiting` jobs, after `reserved` seconds for something else."""
        return Budget((self.left() - reserved) / max(waiting, 1), self._clock)


class Purse:
    """Seconds for jobs that can't be stopped half-way: one begins only where the longest of its kind would fit.

    Compilations are such jobs. What the first of a kind takes can only be guessed.
    """

    def __init__(self, seconds: float, guesses: dict[str, float]) -> None:
        self.seconds = seconds
        self.left = seconds
        self._expected = dict(guesses)
        self._measured: set[str] = set()

    def refusal(self, kind: str) -> str | None:
        """Why a job of this kind does not begin, in words; None where it may."""
        expected = self._expected[kind]
        if expected <= self.left:
            return None
        return (
            f"no time to compile: {self.left:.0f} of {self.seconds:.0f} s are left for it, and {kind} takes about "
            f"{expected:.0f} s"
        )

    def spend(self, kind: str, seconds: float) -> None:
        """Notes what a job of this kind took."""
        self.left -= seconds
        self._expected[kind] = max(self._expected[kind], seconds) if kind in self._measured else seconds
        self._measured.add(kind)
