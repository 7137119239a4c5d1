"""The one reader of JSON files: every way in which a file can be wrong becomes one line that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from quant.errors import CheckpointError, QuantError
from quant.text import first_line


def read_object(
    path: Path, error: type[QuantError] = CheckpointError, missing: str = "missing; is this a checkpoint folder?"
) -> dict[str, Any]:
    """The JSON object that a file holds.

    Args:
        path: the file.
        error: what is raised.
        missing: what is said where there is no such file.

    Raises:
        QuantError: of the class `error`: missing, unreadable, not UTF-8, not JSON, nested deeper than Python reads, or
            not an object.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error(f"{path}: {missing}") from None
    except (OSError, ValueError) as cause:
        raise error(f"{path}: damaged: {first_line(cause)}") from None
    return parse_object(text, str(path), error)


def parse_object(text: str, where: str, error: type[QuantError] = CheckpointError) -> dict[str, Any]:
    """The JSON object that a text holds; `where` names it in errors. Raises as `read_object`."""
    try:
        body = json.loads(text)
    except RecursionError:
        raise error(f"{where}: damaged: nested too deeply") from None
    except ValueError as cause:
        raise error(f"{where}: damaged: {first_line(cause)}") from None
    if not isinstance(body, dict):
        raise error(f"{where}: damaged: not a JSON object")
    return body
