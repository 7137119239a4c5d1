"""Who may write a run folder: the processes of one command, and of every other command none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from quant.errors import QuantError
from quant.eval.runs.ranks import Ranks
from quant.eval.storage.folder import RunFolder
from quant.locks import locked


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
