"""A calibration's memory on disk: statistics after each prompt, so that a run which was killed goes on.

A file in safetensors, replaced in one step. It is of use to the same run only: its key says which recipe, model,
prompts and settings it belongs to, and any other run starts from nothing. It is about one pass over the prompts: that
of the next pass takes its place, and until then some of this pass may be solved already (`quant.workflows.shelf`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from quant.errors import CalibrationError
from quant.places import reason, sync

State = dict[str, torch.Tensor]


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
        self._unfinished = path.with_name(f"{path.name}.tmp")
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
        if not self._path.is_file():
            return None
        try:
            with safe_open(self._path, framework="pt") as file:
                described = file.metadata() or {}
                if described.get("key") != self._key or described.get("part", "") != self._part:
                    return None
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                done = int(described["done"])
        except (SafetensorError, OSError, ValueError, KeyError):
            return None
        if not set(wanted) <= set(state):
            return None
        self.done = done
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
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            save_file(
                self._snapshot(), self._unfinished, metadata={"key": self._key, "part": self._part, "done": str(count)}
            )
            sync(self._unfinished)
            self._unfinished.replace(self._path)
        except (OSError, SafetensorError) as error:
            with suppress(OSError):
                self._unfinished.unlink(missing_ok=True)
            raise CalibrationError(
                f"{self._path}: cannot be written, and holds what a killed run needs: {reason(error)}"
            ) from None
        self._written = time.monotonic()
