"""Append-only records on disk: a process that is killed at any moment loses at most the record it was writing.

One file a writer, one JSON object a line. A line counts once its end is there; whatever follows the last end of line
is what a killed writer left, is not read, and is cut off before the next record. Each line has a hash of the rest of
it, so a score that was changed is not taken for one that was computed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.files.json_files import parse_object
from quant.files.regular_files import read_whole

Record = dict[str, Any]
_HASH = "line_sha256"


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Adds one record and returns when the disk has it. Raises QuantError where the disk refuses."""
    whole = {**record, _HASH: _hash(record)}
    line = json.dumps(whole, ensure_ascii=False, allow_nan=False).encode("utf-8", "backslashreplace") + b"\n"
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
        try:
            lines = read_whole(path).split(b"\n")
        except OSError as error:
            raise QuantError(f"{path}: cannot be read: {error.strerror}") from None
        for number, line in enumerate(lines[:-1], start=1):
            record = _parsed(line)
            if record is None:
                raise QuantError(f"{path}: line {number} is damaged: delete that line, and its work is done again")
            yield record


def _parsed(line: bytes) -> Record | None:
    """The record of a line; None where it is not as `append` wrote it."""
    try:
        record = parse_object(line.decode("utf-8"), "line", QuantError)
    except (QuantError, UnicodeDecodeError):
        return None
    sha256 = record.pop(_HASH, None)
    return record if sha256 == _hash(record) else None


def _hash(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
