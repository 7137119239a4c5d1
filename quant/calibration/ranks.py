"""The processes that calibrate one model together: which one this is, and all that they say to each other.

Whoever starts them (torchrun, srun) says so by environment variables. They talk over gloo, through the CPU, whatever
device they compute on. One process alone is the trivial case, so that nobody else has to ask how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch

from quant.errors import CalibrationError
from quant.text import first_line, shown

T = TypeVar("T")

#: Seconds that a process waits for the others; a block has to be solved within them.
TIMEOUT = "QUANT_RANKS_TIMEOUT"
_SECONDS = 600
_MOST = 1_000_000


@dataclass(frozen=True)
class Ranks:
    """One of several processes.

    Attributes:
        index: its number, from 0; the first one writes.
        count: how many there are.
        local: its number on its machine, which says what GPU is its own.
        seconds: that it waits for the others.
    """

    index: int = 0
    count: int = 1
    local: int = 0
    seconds: int = _SECONDS

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Ranks:
        """What WORLD_SIZE, RANK and LOCAL_RANK say; one process alone where WORLD_SIZE is not set, or 1.

        Raises:
            CalibrationError: one of them is missing or no such number, or MASTER_ADDR or MASTER_PORT is.
        """
        if "WORLD_SIZE" not in environment:
            return cls()
        count = _number(environment, "WORLD_SIZE", 1, _MOST)
        if count == 1:
            return cls()
        index = _number(environment, "RANK", 0, count - 1)
        local = _number(environment, "LOCAL_RANK", 0, count - 1)
        _number(environment, "MASTER_PORT", 1, 65535)
        if not environment.get("MASTER_ADDR"):
            raise CalibrationError("MASTER_ADDR: not set, and WORLD_SIZE is; start all processes with torchrun")
        return cls(index, count, local, _number({TIMEOUT: str(_SECONDS), **environment}, TIMEOUT, 1, _MOST))

    @property
    def is_first(self) -> bool:
        """Whether this process writes, and shows what is done."""
        return self.index == 0

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Within it the processes can talk.

        Raises:
            CalibrationError: not all of them came in time, or the caller has a process group of its own.
        """
        if self.count == 1:
            yield
            return
        import torch.distributed as dist

        if dist.is_initialized():
            raise CalibrationError(
                f"rank {self.index} of {self.count}: this process has a process group already, and calibration makes "
                "its own; call destroy_process_group() first"
            )
        with self._answering():
            dist.init_process_group(
                "gloo", rank=self.index, world_size=self.count, timeout=timedelta(seconds=self.seconds)
            )
        try:
            yield
        finally:
            dist.destroy_process_group()  # which closes its connections: the others see that it has ended

    def device(self, name: str | None) -> str | None:
        """The device of this process; those of a machine share out its GPUs where none is named by its number."""
        if self.count == 1 or name not in (None, "cuda") or not torch.cuda.is_available():
            return name
        return f"cuda:{self.local % torch.cuda.device_count()}"

    def mine(self, everything: Sequence[T]) -> Sequence[T]:
        """This process's part, by position."""
        return everything[self.index :: self.count]

    def all_of(self, one: T) -> list[T]:
        """What each process gives, by number. All have to ask, and none goes on before all have.

        Raises:
            CalibrationError: another one has ended, or does not answer.
        """
        if self.count == 1:
            return [one]
        import torch.distributed as dist

        found: list[Any] = [None] * self.count
        with self._answering():
            dist.all_gather_object(found, one)
        return found

    def at(self, owner: int, one: T) -> list[T]:
        """The same for one process alone; empty for the others."""
        if self.count == 1:
            return [one]
        import torch.distributed as dist

        found: list[Any] | None = [None] * self.count if self.index == owner else None
        with self._answering():
            dist.gather_object(one, found, dst=owner)
        return found or []

    def sum_at(self, owner: int, part: torch.Tensor) -> torch.Tensor:
        """The sum of a float64 tensor of each process, on the CPU, for one of them; of no use to the others.

        Raises:
            CalibrationError: a part is not finite, for which gloo has no order, or another process has ended.
        """
        if self.count == 1:
            return part
        import torch.distributed as dist

        total = part.cpu().clone()
        wrong = self.all_of(int((~torch.isfinite(total)).sum()))
        if any(wrong):
            which = next(rank for rank, count in enumerate(wrong) if count)
            raise CalibrationError(f"rank {which}: {wrong[which]} sums over its calls are not finite")
        with self._answering():
            dist.reduce(total, dst=owner)
        return total

    def check_equal(self, what: Mapping[str, object], remedy: str) -> None:
        """Raises CalibrationError where what a process sees is not what the first one does; names it, and the part."""
        first, *rest = self.all_of(dict(what))
        for rank, other in enumerate(rest, 1):
            wrong = [name for name in sorted({*first, *other}) if first.get(name) != other.get(name)]
            if wrong:
                raise CalibrationError(f"rank {rank}: not the same {' and '.join(wrong)} as rank 0; {remedy}")

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, EOFError) as error:
            raise CalibrationError(
                f"rank {self.index} of {self.count}: another process of this run has ended, or has not answered for "
                f"{self.seconds} s ({TIMEOUT}); look at what it wrote ({first_line(error)[:120]})"
            ) from None


def owners(costs: Sequence[float], count: int) -> list[int]:
    """Which process solves each of several things, the largest first to the one that has least."""
    loads, found = [0.0] * count, [0] * len(costs)
    for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        found[i] = min(range(count), key=lambda rank: (loads[rank], rank))
        loads[found[i]] += costs[i]
    return found


def _number(environment: Mapping[str, str], name: str, least: int, most: int) -> int:
    text = environment.get(name)
    if text is None:
        raise CalibrationError(f"{name}: not set, and WORLD_SIZE is; start all processes with torchrun")
    if not text.isascii() or not text.isdigit() or len(text) > 7 or not least <= int(text) <= most:
        raise CalibrationError(f"{name}: must be a whole number from {least} to {most}, got {shown(text)}")
    return int(text)
