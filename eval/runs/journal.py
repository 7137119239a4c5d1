"""Append-only records on disk: a process that is killed at any moment loses at most the record it was writing.

One file a writer, one JSON object a line. A line counts once its end is there; whatever follows the last end of line
is what a killed writer left, is not read, and is cut off before the next record.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quant.errors import QuantError

Record = dict[str, Any]


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Adds one record and returns when the disk has it. Raises QuantError where the disk refuses."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+") as file:
            _cut_torn_line(file.fileno())
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise QuantError(f"{path}: cannot be written: {error.strerror}") from None


def read(folder: Path, kind: str) -> Iterator[Record]:
    """Every whole record of `folder`/`kind`-*.jsonl, by file name and then in the order of writing.

    Raises:
        QuantError: a line that ends but is no JSON object; no killed writer leaves one.
    """
    for path in sorted(folder.glob(f"{kind}-*.jsonl")):
        lines = path.read_bytes().split(b"\n")
        for number, line in enumerate(lines[:-1], start=1):
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                raise QuantError(f"{path}: line {number} is damaged: delete that line, and its work is done again")
            yield record


def _cut_torn_line(descriptor: int) -> None:
    """Shortens the file to the end of its last whole line."""
    size = os.fstat(descriptor).st_size
    end = size
    while end:
        start = max(0, end - 65536)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        os.ftruncate(descriptor, end)
