"""A lock excludes other processes, ends with its holder however that ends, and leaves nothing."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from quant.errors import CheckpointError
from quant.files.locks import locked


def _child_that_holds(path: Path, *, forks: bool = False) -> tuple[int, int]:
    """A process that holds the lock until it is killed; its number, and a pipe on which it wrote once it did.

    With `forks`, a child of its own lives on, which writes its number.
    """
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with locked(path, "out"):
                os.write(told, b"x")
                if forks and os.fork() == 0:
                    os.write(told, str(os.getpid()).encode())
                signal.pause()
        finally:
            os._exit(0)  # an error must not go on with the tests in the child
    os.close(told)
    return child, ready


def test_a_second_process_is_refused_and_a_killed_holder_is_none(tmp_path: Path) -> None:
    path = tmp_path / ".out.lock"
    child, ready = _child_that_holds(path)
    try:
        assert os.read(ready, 1) == b"x"
        with (
            pytest.raises(CheckpointError, match=rf"^out: another process is writing it \(process {child} on "),
            locked(path, "out", CheckpointError),
        ):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(ready)
    assert path.exists()  # the killed one could not remove it
    with locked(path, "out"):
        assert f"process {os.getpid()} on " in path.read_text()
    assert not path.exists()


def test_within_one_process_too(tmp_path: Path) -> None:
    path = tmp_path / ".out.lock"
    with (
        locked(path, "out"),
        pytest.raises(CheckpointError, match="another process"),
        locked(path, "out", CheckpointError),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_its_holder_removed_meanwhile_is_not_the_lock(tmp_path: Path, monkeypatch: Any) -> None:
    """Two that opened the same file, of which the first removed it: the second must not believe the old file."""
    path, real = tmp_path / ".out.lock", fcntl.flock
    raced: list[int] = []

    def flock(handle: int, how: int) -> None:
        if not raced:
            raced.append(handle)
            path.unlink()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(path, "out"):
        assert path.exists()


def test_a_child_that_its_holder_forked_holds_nothing(tmp_path: Path) -> None:
    """It may live on for hours, as a loader's workers do when what started them is killed."""
    path = tmp_path / ".out.lock"
    child, ready = _child_that_holds(path, forks=True)
    assert os.read(ready, 1) == b"x"
    grandchild = int(os.read(ready, 20))
    try:
        with pytest.raises(CheckpointError, match="another process"), locked(path, "out", CheckpointError):
            pass  # it has let go of its own, and not of its parent's
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.kill(grandchild, 0)  # it lives
        with locked(path, "out"):
            pass
    finally:
        os.kill(grandchild, signal.SIGKILL)
        os.close(ready)


@pytest.mark.parametrize("call", ["flock", "stat"])
def test_any_other_refusal_is_named_and_leaves_no_open_file(tmp_path: Path, monkeypatch: Any, call: str) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    before = len(list(Path("/dev/fd").iterdir()))
    monkeypatch.setattr(*((fcntl, "flock") if call == "flock" else (Path, "stat")), refuse)
    with (
        pytest.raises(CheckpointError, match=r"^out: cannot be written: .*l: Input/output error$"),
        locked(tmp_path / "l", "out", CheckpointError),
    ):
        pass
    assert len(list(Path("/dev/fd").iterdir())) == before


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: Any, number: int) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(CheckpointError, match="no file locks"), locked(tmp_path / "l", "out", CheckpointError):
        pass


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"), locked(tmp_path / "no" / "l", "out", CheckpointError):
        pass
