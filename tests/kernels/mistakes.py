"""Mistakes to make in the kernels, each with an input that shows it, and how it shows.

A mistake may be found as a wrong result ("mismatch"), as bank conflicts ("conflicts"), or as a fault that the emulator
names ("race", "out of bounds", ...).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from quant.kernels.runtime.sources import shipped
from tests.emulator.emulator import EmulatorError, Mutation, mutated

Sources = Mapping[str, str] | None
#: Runs a kernel made of these sources; None where all is well, else how it is not.
Check = Callable[[Sources], str | None]


class Mistake(NamedTuple):
    """One mutation of one kernel.

    Attributes:
        kernel: which one.
        mutation: the change.
        check: the input that shows it.
        shown: how it may show.
    """

    kernel: str
    mutation: Mutation
    check: Check
    shown: tuple[str, ...]


def found(mistake: Mistake) -> str | None:
    """How a mistake shows; None where it does not."""
    try:
        return mistake.check(mutated(shipped(), mistake.mutation))
    except EmulatorError as error:
        return error.kind
