"""Progress of work that reports (what, done, total): a bar for each thing, or one line for everything."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from types import TracebackType
from typing import Any


class StepBars:
    """One bar after the other on stderr, each with the time left."""

    def __init__(self) -> None:
        self._what = ""
        self._bar: Any = None

    def show(self, what: str, done: int, total: int) -> None:
        """Brings the bar of `what` to `done` of `total`; there it is closed, before other work draws its own."""
        from tqdm import tqdm

        if what != self._what:
            self._close()
            self._what, self._bar = what, tqdm(total=total, desc=f"videos: {what}", unit="step")
        self._bar.update(done - self._bar.n)
        if done == total:
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._what, self._bar = "", None

    def __enter__(self) -> StepBars:
        silence_loading()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()


class OneLine:
    """One line on stderr: what is being done, how much of all, and the time that is left.

    On a terminal it is written anew every second; elsewhere there is a line for each thing that is done.
    """

    #: Seconds of a unit of work before any was measured, and the share of all work that this guess weighs like.
    _GUESS, _WEIGHT = 0.05, 0.05

    def __init__(self) -> None:
        self._begun = self._seen = 0.0
        self._what, self._done, self._total, self._first = "", 0, 1, 0
        self._stop = threading.Event()
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def show(self, what: str, done: int, total: int) -> None:
        """Says that `done` of `total` units of all work are done, and what is done next."""
        if not self._what:  # neither importing nor what an earlier run has done says anything of the speed
            self._first, self._begun = done, time.monotonic()
        news = what != self._what
        self._what, self._done, self._total, self._seen = what, done, total, time.monotonic()
        if news and not sys.stderr.isatty():
            sys.stderr.write(f"{self.text()}\n")

    def text(self) -> str:
        """The line."""
        now = time.monotonic()
        weight = self._WEIGHT * self._total
        each = (self._seen - self._begun + self._GUESS * weight) / (self._done - self._first + weight)
        left = max(each * (self._total - self._done) - (now - self._seen), 1.0)
        return f"{self._what}: {self._done / self._total:.0%} of all, about {_rounded(left)} left"

    def _tick(self) -> None:
        while not self._stop.wait(1.0):
            self.paint()

    def paint(self) -> None:
        """Writes the line over itself, where there is a terminal."""
        if self._what and sys.stderr.isatty():
            width = shutil.get_terminal_size().columns
            sys.stderr.write(f"\r\x1b[2K{self.text()[: width - 1]}")
            sys.stderr.flush()

    def __enter__(self) -> OneLine:
        silence_loading()
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._ticker.join()
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[2K")


def _rounded(seconds: float) -> str:
    """ "2 min 10 s", in steps of ten seconds above a minute."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(10 * round(seconds / 10), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def silence_loading() -> None:
    """diffusers and transformers draw bars for every part they load, in the middle of ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
