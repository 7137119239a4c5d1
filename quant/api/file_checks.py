"""Reads every file of a checkpoint once: its SHA-256, and the values of its tensors."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.api.component_checks import Component
from quant.checkpoint.manifest import digest_fault
from quant.checkpoint.pieces import Piece, pieces
from quant.errors import CheckpointError
from quant.formats.checks import has_nan_code
from quant.layers.fitting import value_fault
from quant.text import first_line

#: Files that are read at once: more do not make a disk faster, and each takes some 50 MB of memory.
_MOST_FILES = 4


@dataclass(frozen=True)
class FileJob:
    """A file to be read.

    Attributes:
        path: a regular file.
        nbytes: its size.
        entries: of the manifest, for its SHA-256; none where it is not to be hashed.
        component: whose tensors it holds; None where none are to be looked at.
    """

    path: Path
    nbytes: int
    entries: tuple[dict[str, Any], ...] = ()
    component: Component | None = None


@dataclass(frozen=True)
class FileFaults:
    """What is wrong with a file: as a file, and with the values of its tensors."""

    file: tuple[str, ...] = ()
    values: tuple[str, ...] = ()


def read_files(jobs: Iterable[FileJob], on_bytes: Callable[[int], object]) -> dict[Path, FileFaults]:
    """Reads files, several at once where there are cores; `on_bytes` is called with numbers of bytes, one at a time."""
    stop, lock = threading.Event(), threading.Lock()

    def count(nbytes: int) -> None:
        with lock:
            on_bytes(nbytes)

    with ThreadPoolExecutor(min(_MOST_FILES, os.cpu_count() or 1)) as pool:
        running = {job.path: pool.submit(_read, job, stop, count) for job in jobs}
        try:
            return {path: each.result() for path, each in running.items()}
        finally:
            stop.set()  # where one failed, or Ctrl-C came
            pool.shutdown(cancel_futures=True)


def _read(job: FileJob, stop: threading.Event, on_bytes: Callable[[int], object]) -> FileFaults:
    digest = hashlib.sha256()
    values: dict[str, str] = {}
    try:
        # SHA-256 of one piece is taken while its values are looked at: neither holds Python's lock.
        with ThreadPoolExecutor(1) as hasher:
            for piece in pieces(job.path, tensors=job.component is not None):
                hashing = hasher.submit(digest.update, piece.data) if job.entries else None
                if job.component is not None and piece.name not in values:
                    wrong = _value_fault(job.component, piece)
                    if wrong is not None:
                        values[piece.name] = wrong
                if hashing is not None:
                    hashing.result()
                on_bytes(len(piece.data))
                if stop.is_set():
                    return FileFaults()
    except CheckpointError as error:
        return FileFaults((str(error),), tuple(values.values()))
    except OSError as error:
        return FileFaults((f"{job.path}: cannot be read: {first_line(error)}",), tuple(values.values()))
    found = (digest_fault(job.path, digest.hexdigest(), entry) for entry in job.entries)
    return FileFaults(tuple(dict.fromkeys(wrong for wrong in found if wrong is not None)), tuple(values.values()))


def _value_fault(component: Component, piece: Piece) -> str | None:
    """What is wrong with the values of a piece, with the tensor's name."""
    if piece.rows is None:
        return None
    layers = {} if piece.name in component.unfit else component.layers
    wrong = value_fault(piece.name, piece.rows, layers)
    if wrong is None and has_nan_code(piece.rows):
        wrong = "holds NaN: 0x7f and 0xff are no numbers"
    if wrong is None:
        return None
    name = f"{component.name}.{piece.name}" if component.name else piece.name
    return f"{name}: {wrong}{f' (rows counted from {piece.first})' if piece.first else ''}"
