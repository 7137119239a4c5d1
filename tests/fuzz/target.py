"""What the campaign mutates and reads: one object a kind of file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Target:
    """A folder of good files, and how the product reads it.

    Attributes:
        name: what a report calls it.
        make: writes the good files into an empty folder.
        read: what a user does with the folder; returns plain values or tensors to compare. It writes nothing.
        mutated: patterns of the files that are mutated, within the folder.
        hashed: the folder has a hash of every mutated file: a read of any change but a refusal is wrong, unless it
            gives what the good files give.
        wrong: of an accepted read that differs from the good one: why it is wrong, or None where the changed files
            do mean that.
        share: how many of the campaign's mutations it gets, relative to the others.
    """

    name: str
    make: Callable[[Path], object]
    read: Callable[[Path], Any]
    mutated: tuple[str, ...] = ("**/*",)
    hashed: bool = False
    wrong: Callable[[Path, Any], str | None] = lambda folder, found: None
    share: float = 1.0

    def files(self, folder: Path) -> list[Path]:
        """The files that are mutated."""
        found = {path for pattern in self.mutated for path in folder.glob(pattern) if path.is_file()}
        return sorted(found)
