"""Several processes on one run, as `torchrun` starts them, and the folder that they alone may write.

Each process takes every n-th sample, and the first puts together. No figure depends on how many there are: each video
is made alone, from its own noise.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from quant.errors import QuantError
from quant.eval.storage.folder import RunFolder
from quant.files.locks import locked
from quant.text import kind_and_line

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
        other = next((text for text in self.gather(self._line(failure)) if text), None)
        if failure is not None:
            raise failure
        if other is not None:
            raise QuantError(other)
        return cast("T", value)

    def alone(self, work: Callable[[], object]) -> None:
        """Does `work` in the first process, and returns in all when it has. Raises as `together`."""
        self.together(lambda: work() if self.first else None)

    def _line(self, failure: Exception | None) -> str | None:
        if failure is None or isinstance(failure, QuantError):
            return None if failure is None else str(failure)
        return f"process {self.rank}: {kind_and_line(failure)}"

    def gather(self, value: T) -> list[T]:
        """The plain values of all processes, by rank, in each of them."""
        if self.world == 1:
            return [value]
        import torch.distributed

        every: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(every, value)
        return every

    def device(self, device: str) -> str:
        """The device of this process: its own GPU where "cuda" was asked for."""
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


@contextmanager
def claimed(folder: Path, these: Ranks) -> Iterator[None]:
    """Makes the folder, if need be, and holds it for the processes of one run.

    The first process holds the run. Each other one holds a lock of its own, and the first process of a later command
    asks for all of these: a process outlives the first one of its run where that was killed. The locks lie in the
    folder, so that they hold wherever it is mounted.

    Raises:
        QuantError: in all processes: another command works on the run, with its holder; the folder holds something
            else; it cannot be written.
    """
    made = False
    with ExitStack() as stack:

        def hold() -> None:
            nonlocal made
            what = str(folder)
            if these.first:
                _refuse_others(folder)
                made = not folder.exists()
                _make(folder)
                stack.enter_context(locked(folder / ".lock", what))
                for path in sorted(folder.glob(".lock-*")):
                    with locked(path, what):
                        pass

        def hold_own() -> None:
            if not these.first:
                stack.enter_context(locked(folder / f".lock-{these.rank}", str(folder)))

        try:
            these.together(hold)
            these.together(hold_own)
            yield
        finally:
            stack.close()
            if made:
                with suppress(OSError):  # something is in it, as it should be; else the command was refused
                    folder.rmdir()


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise QuantError(f"{folder}: cannot be made: {error.strerror}") from None


def _refuse_others(folder: Path) -> None:
    """Raises QuantError where the folder holds what is of no run."""
    try:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:
        return
    except OSError as error:
        raise QuantError(f"{folder}: cannot be read: {error.strerror}") from None
    if names and not RunFolder(folder).config.is_file():
        raise QuantError(f"{folder}: holds what no run made ({names[0]}): choose another --out or --name")
