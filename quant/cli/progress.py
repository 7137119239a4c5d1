"""Progress bars for work that reports (what, done, total)."""

from __future__ import annotations

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


def silence_loading() -> None:
    """diffusers and transformers draw bars for every part they load, in the middle of ours."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
