"""Folders that are complete or do not exist: written as a hidden sibling, then renamed into place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quant.errors import CheckpointError


def check_free(out: Path, *, force: bool) -> None:
    """Refuses an output folder that is in the way, before any work is done.

    First it removes what killed runs left beside `out`, and puts back the folder that one of them had moved aside.

    Raises:
        CheckpointError: it exists and `force` is not set, or it is a file.
    """
    try:
        _remove_abandoned(out)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error.strerror}") from None
    if out.exists() and not out.is_dir():
        raise CheckpointError(f"{out}: is a file; give --out a folder that does not exist yet")
    if out.is_dir() and any(out.iterdir()) and not force:
        raise CheckpointError(f"{out}: already exists; choose another --out, or replace it with --force")


@contextmanager
def new_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Gives an empty folder to write into, which becomes `out` when the block ends without an error.

    A reader of `out` sees the old folder or the whole new one. What a killed run left behind is removed by the
    next run for the same `out`.

    Raises:
        CheckpointError: as `check_free`, or the disk refuses.
    """
    check_free(out, force=force)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = out.parent / f".{out.name}.tmp-{os.getpid()}"
        work.mkdir()
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error.strerror}") from None
    try:
        yield work
        _sync_tree(work)
        _rename(work, out)
    except OSError as error:
        raise CheckpointError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _rename(work: Path, out: Path) -> None:
    """Puts `work` in the place of `out`. A folder cannot be exchanged in one step, so the old one steps aside."""
    old = out.parent / f".{out.name}.old-{os.getpid()}"
    if out.exists():
        out.rename(old)
    try:
        work.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    _sync(out.parent)
    _remove(old)


def _remove_abandoned(out: Path) -> None:
    """Removes siblings of runs that are no longer alive; puts an old folder back that such a run had moved aside."""
    if not out.parent.is_dir():
        return
    for kind in ("old", "tmp"):
        prefix = f".{out.name}.{kind}-"
        for path in [path for path in out.parent.iterdir() if path.name.startswith(prefix)]:
            pid = path.name.removeprefix(prefix)
            if not pid.isdecimal() or _alive(int(pid)):
                continue
            if kind == "old" and not out.exists():
                path.rename(out)
            else:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink(missing_ok=True)
    else:
        shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    """Whether another process has this id. Our own id is that of an earlier run: a container counts from 1 again."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(root: Path) -> None:
    for path in [*root.rglob("*"), root]:
        _sync(path)
