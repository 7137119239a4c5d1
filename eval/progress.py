"""How a run reports how far it is."""

from __future__ import annotations

from collections.abc import Callable

#: Called with what is being done, how much of it is done, and of how much.
Progress = Callable[[str, int, int], None]


def silent(what: str, done: int, total: int) -> None:
    """Reports nothing."""
