"""Places that a configuration names: paths of this machine, or ids of a model hub."""

from __future__ import annotations

from pathlib import Path

from quant.errors import QuantError
from quant.text import first_line, shown


def place(value: str, base: Path) -> str:
    """A path of this machine as an absolute one; anything else (a hub id) as it is.

    Raises:
        QuantError: a path that no file can have.
    """
    try:
        path = base / Path(value).expanduser()
        looks_like_a_path = value.startswith((".", "/", "~")) or path.exists()
        return str(path.resolve()) if looks_like_a_path else value
    except OSError as error:
        raise QuantError(f"{shown(value)}: no such file or folder: {error.strerror}") from None
    except (RuntimeError, ValueError) as error:  # no such user; a zero byte
        raise QuantError(f"{shown(value)}: no such file or folder: {first_line(error)}") from None


def short_place(where: str) -> str:
    """How results name a place: the last two parts of a path, anything else (a hub id) as it is.

    Results are passed on: whose disk a folder lies on, and where, is not for their readers.
    """
    path = Path(where)
    return "/".join(path.parts[-2:]).lstrip("/") if path.is_absolute() else where
