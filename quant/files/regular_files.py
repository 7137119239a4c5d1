"""Opens files that others have made: only regular ones, and of a size that is read at once."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

#: The largest file that is read whole, in bytes: far more than results, manifests and recipes take.
MOST_BYTES = 1 << 29


def open_regular(path: Path) -> io.BufferedReader:
    """The file, open for reading. Nothing waits for a pipe that nobody writes, and no device is read.

    Raises:
        OSError: it is no regular file; else as `open`.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(handle).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(path))
        return open(handle, "rb")  # noqa: PTH123  (the caller closes it)
    except BaseException:
        os.close(handle)
        raise


def read_whole(path: Path) -> bytes:
    """All bytes of a regular file. Raises OSError where it has more than `MOST_BYTES`; else as `open_regular`."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > MOST_BYTES:
            raise OSError(errno.EFBIG, f"Larger than {MOST_BYTES >> 20} MiB", str(path))
        return file.read()


def read_text(path: Path) -> str:
    """The UTF-8 text of a regular file, with lines that end in \\n. Raises ValueError, or OSError as `read_whole`."""
    return read_whole(path).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
