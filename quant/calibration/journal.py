"""A calibration's memory on disk: statistics after each prompt, so that a run which was killed goes on.

A file in safetensors, replaced in one step. It is of use to the same run only: its key says which recipe, model,
prompts and settings it belongs to, and any other run starts from nothing. It is about one pass over the prompts: that
of the next pass takes its place, and until then some of this pass may be solved already, see
`quant.calibration.kept_solutions`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from quant.checkpoint.kept_files import Tensors, keep, kept

State = Tensors


class Journal:
    """One run's file.

    Attributes:
        done: prompts that the state in the file holds; 0 until `load` has found one.
    """

    def __init__(self, path: Path, key: str, *, seconds: float = 60.0) -> None:
        """`seconds` is the least time between two writings: a row sample of a large model takes gigabytes."""
        self.done = 0
        self._part = ""
        self._path, self._key, self._seconds = path, key, seconds
        self._snapshot: Callable[[], State] = dict
        self._written = time.monotonic()

    def begin(self, part: str) -> None:
        """From now on it is about this part of the run; the file of another part counts as absent."""
        self._part, self.done = part, 0

    def load(self, wanted: Iterable[str] = ()) -> State | None:
        """The state of a killed run with the same key and part, or None: no file, another run's, or a damaged one.

        Args:
            wanted: what the state must hold to be of use. A run that went on with the layers which were left writes
                their state only; if the solution of another is lost then, the prompts have to be run again.
        """
        found = kept(self._path, key=self._key, part=self._part)
        if found is None or not set(wanted) <= set(found[0]):
            return None
        state, notes = found
        self.done = int(notes["done"])
        return state

    def watch(self, snapshot: Callable[[], State]) -> None:
        """From now on the state is what `snapshot` returns."""
        self._snapshot = snapshot

    def prompt_done(self, count: int) -> None:
        """`count` prompts have been run; writes the state where the last writing is long enough ago.

        Raises:
            CalibrationError: the disk refuses.
        """
        if time.monotonic() - self._written < self._seconds:
            return
        keep(self._path, self._snapshot(), {"key": self._key, "part": self._part, "done": str(count)})
        self._written = time.monotonic()
