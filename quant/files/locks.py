"""Locks on files, so that two processes never write the same output.

The lock is the kernel's (flock(2)): it ends with the process that holds it, killed or not, and no child that this one
forks holds it. It holds between containers
of a machine, and between hosts on network file systems that pass locks on (NFSv4, Lustre and GPFS with `flock`). The
number of a process says none of that: every container counts from 1. The file says who holds it, for messages only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from quant.errors import QuantError
from quant.text import cut

#: What flock(2) says where a file system has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
#: Open files of this process whose locks it holds or asks for.
_held: set[int] = set()


@contextmanager
def locked(path: Path, what: str, error: type[QuantError] = QuantError) -> Iterator[None]:
    """Holds the lock file `path`, which is made here and removed afterwards.

    Args:
        path: in a folder that exists; by convention the hidden sibling `.NAME.lock` of what is written.
        what: the output that it protects, for messages.
        error: the class of what is raised.

    Raises:
        QuantError: of the class `error`: another process holds it (with its host, number and start), or the file
            system refuses or has no locks.
    """
    handle, holder = _acquired(path, what, error), os.getpid()
    try:
        yield
    finally:
        if os.getpid() == holder:  # and not a child that it forked, which an error ends
            with suppress(OSError):  # a disk that is read-only by now; the file alone locks nothing
                path.unlink(missing_ok=True)  # before it is released: whoever waits for this file sees that it is gone
            _close(handle)


def _acquired(path: Path, what: str, error: type[QuantError]) -> int:
    while True:
        try:
            # Not through a link, which could lead to any file: this one is emptied.
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except OSError as cause:
            raise error(f"{what}: cannot be written: {path}: {cause.strerror}") from None
        _held.add(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = _is_current(handle, path)
        except OSError as cause:
            refused = f"{what}: {_refusal(cause, handle, path)}"
            _close(handle)
            raise error(refused) from None
        except BaseException:
            _close(handle)
            raise
        if current:
            started = time.strftime("%Y-%m-%d %H:%M:%S")
            with suppress(OSError):  # a full disk still locks
                os.truncate(handle, 0)
                os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}, since {started}\n".encode(), 0)
            return handle
        _close(handle)  # its holder removed the file between our opening and our locking it


def _refusal(cause: OSError, handle: int, path: Path) -> str:
    if cause.errno in (errno.EWOULDBLOCK, errno.EAGAIN):
        return f"another process is writing it{_holder(handle)}; wait for it or choose another"
    if cause.errno in _NO_LOCKS:
        return (
            "its file system has no file locks, which keep two runs from mixing their files; write to a local disk "
            "and copy the result"
        )
    return f"cannot be written: {path}: {cause.strerror}"


def _close(handle: int) -> None:
    _held.discard(handle)
    os.close(handle)


def _let_go() -> None:
    """In a child that was forked: what it has inherited would hold the locks for as long as it lives."""
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_let_go)


def _is_current(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle)
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


def _holder(handle: int) -> str:
    text = ""
    with suppress(OSError):
        text = os.pread(handle, 200, 0).decode("utf-8", "replace").strip()
    return f" ({cut(text, 150)})" if text else ""
