"""Files of a run, each whole or absent, and hashes of them."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.errors import QuantError
from quant.files.regular_files import open_regular, read_whole
from quant.files.whole_files import UNFINISHED, whole_file

#: A file that changed within this many nanoseconds may change again without new times: its hash is not remembered.
SETTLED = 2_000_000_000
_HASHED: dict[tuple[str | int, ...], str] = {}


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one step. Bytes of a path that are no text are written as escapes, as JSON has them."""
    with whole_file(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_array(path: Path, array: npt.NDArray[np.float32]) -> str:
    """Writes an array in one step, and returns the SHA-256 of the file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    with whole_file(path) as unfinished:
        unfinished.write_bytes(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def read_array(path: Path, sha256: str) -> npt.NDArray[np.float32]:
    """What `write_array` wrote.

    Raises:
        QuantError: the file is not the one of that SHA-256.
    """
    try:
        data = read_whole(path)
    except OSError as error:
        raise QuantError(f"{path}: cannot be read: {error.strerror}") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise _changed(path)
    found: npt.NDArray[np.float32] = np.load(io.BytesIO(data), allow_pickle=False)
    return found


def check_written(path: Path, sha256: str) -> None:
    """Raises QuantError where a file is not the one of that SHA-256."""
    if file_sha256(path) != sha256:
        raise _changed(path)


def _changed(path: Path) -> QuantError:
    return QuantError(f"{path}: is not what the run wrote; `quant eval resume` makes it again")


def write_json(path: Path, value: Any) -> None:
    """Writes JSON in one step; NaN and infinity are a ValueError."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def without_infinity(value: Any) -> Any:
    """A value with None for infinity and NaN, which JSON has not."""
    if isinstance(value, dict):
        return {key: without_infinity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinity(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def remove_unfinished(folder: Path) -> None:
    """Deletes what killed writers left below `folder`."""
    for path in folder.rglob(f".*{UNFINISHED}"):
        path.unlink(missing_ok=True)


def file_sha256(path: Path) -> str | None:
    """The SHA-256 of a file; None where there is none. Raises QuantError where it cannot be read.

    A run asks often for the hashes of its videos, so this process remembers those of files that have settled.
    """
    try:
        with open_regular(path) as file:
            there = os.fstat(file.fileno())
            key = (str(path), there.st_dev, there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns)
            if key in _HASHED:
                return _HASHED[key]
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - max(there.st_mtime_ns, there.st_ctime_ns) > SETTLED:
            _HASHED[key] = found
        return found
    except FileNotFoundError:
        return None
    except OSError as error:
        raise QuantError(f"{path}: cannot be read: {error.strerror}") from None


def hash_of(value: Any) -> str:
    """The SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode()).hexdigest()
