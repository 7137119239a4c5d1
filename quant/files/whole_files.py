"""Files that are whole or absent, whatever ends their writer."""

from __future__ import annotations

import glob
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quant.errors import QuantError
from quant.files.places import reason, replaced

#: How the name of an unfinished file ends; nothing reads one.
UNFINISHED = ".part"


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a name in the folder of `path` to write to; the file becomes `path` once the disk has all of it.

    Raises:
        QuantError: the disk refuses, or is full. Nothing is left then.
    """
    unfinished = unfinished_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path, unfinished):
            yield unfinished
    except OSError as error:
        raise QuantError(f"{path}: cannot be written: {reason(error)}") from None


def unfinished_name(path: Path) -> Path:
    """A hidden name in the folder of `path`, another each time: no two writers of a file write into each other's."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")


def remove_unfinished_of(path: Path) -> None:
    """Deletes what killed writers of one file left; whoever calls this is its only writer. Raises OSError."""
    for each in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 8}{UNFINISHED}"):
        each.unlink(missing_ok=True)
