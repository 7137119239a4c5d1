"""Several processes on one run, as `torchrun` starts them: each takes every n-th sample, and the first puts together.

No figure depends on how many there are: each video is made alone, from its own noise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

from quant.errors import QuantError
from quant.text import first_line

T = TypeVar("T")
#: One process may have slower videos than another, by hours.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """This process's number, how many there are, and its number on this machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process puts the results together."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of `items`."""
        return list(items[self.rank :: self.world])

    def wait(self) -> None:
        """Returns when all processes have come here."""
        if self.world > 1:
            import torch.distributed

            torch.distributed.barrier()

    def agree(self, value: Any) -> None:
        """Returns when all processes have given the same plain value.

        Raises:
            QuantError: in all of them, where one has another.
        """
        every = self.gather(value)
        other = next((rank for rank, given in enumerate(every) if given != every[0]), None)
        if other is not None:
            raise QuantError(
                f"process {other} would make another run than process 0: all need the same models, prompts, "
                "settings, versions and kind of GPU"
            )

    def together(self, work: Callable[[], T]) -> T:
        """Does `work` in every process, and returns when all have.

        Raises:
            QuantError: in all of them, what was raised in the first that failed: none waits for one that is gone. What
                is no QuantError is raised as it is where it happened, and as a line with its kind in the others.
        """
        value: T | None = None
        failure: Exception | None = None
        try:
            value = work()
        except Exception as error:  # of any kind: the others would wait for this process
            failure = error
        said = next((text for text in self.gather(self._line(failure)) if text), None)
        if failure is not None:
            raise failure
        if said is not None:
            raise QuantError(said)
        return cast("T", value)

    def alone(self, work: Callable[[], object]) -> None:
        """Does `work` in the first process, and returns in all when it has. Raises as `together`."""
        self.together(lambda: work() if self.first else None)

    def _line(self, failure: Exception | None) -> str | None:
        if failure is None or isinstance(failure, QuantError):
            return None if failure is None else str(failure)
        return f"process {self.rank}: {type(failure).__name__}: {first_line(failure)}"

    def gather(self, value: T) -> list[T]:
        """The plain values of all processes, by rank, in each of them."""
        if self.world == 1:
            return [value]
        import torch.distributed

        every: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(every, value)
        return every

    def device(self, device: str) -> str:
        """The device of this process: its own GPU where "cuda" was said."""
        return f"cuda:{self.local}" if device == "cuda" and self.world > 1 else device


@contextmanager
def ranks() -> Iterator[Ranks]:
    """The processes that RANK, WORLD_SIZE and LOCAL_RANK tell of; one where they are not set."""
    try:
        world = int(os.environ.get("WORLD_SIZE", "1"))
        rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    except ValueError as error:
        raise QuantError(f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers: {error}") from None
    if world == 1:
        yield Ranks()
        return
    import torch.distributed

    torch.distributed.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield Ranks(rank, world, local)
    finally:
        torch.distributed.destroy_process_group()
