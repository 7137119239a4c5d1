"""The one reader and the one writer of JSON files: what is wrong with one becomes a line that names it."""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quant.errors import CheckpointError, QuantError
from quant.files.regular_files import open_regular, read_text
from quant.text import cut, first_line, shown

#: Levels of lists and objects within each other that no file of data needs.
MOST_NESTED = 100
#: A string, which never goes over the end of a line, or what opens and closes a level. No byte is looked at twice: a
#: string that nothing ends goes on to the end of its line.
_LEVELS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]')


def read_object(
    path: Path, error: type[QuantError] = CheckpointError, missing: str = "missing; is this a checkpoint folder?"
) -> dict[str, Any]:
    """The JSON object that a file holds.

    Args:
        path: the file.
        error: what is raised.
        missing: the message where there is no such file.

    Raises:
        QuantError: of the class `error`: missing, unreadable, no regular file, too large, not UTF-8, not JSON, nested
            deeper than Python reads, or not an object.
    """
    return _object(read_value(path, error, missing), str(path), error)


def read_value(
    path: Path, error: type[QuantError] = CheckpointError, missing: str = "missing; is this a checkpoint folder?"
) -> Any:
    """The JSON value that a file holds. Raises as `read_object`, but for what is no object."""
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise error(f"{path}: {missing}") from None
    except (OSError, ValueError) as cause:
        raise error(f"{path}: damaged: {first_line(cause)}") from None
    return _parsed(text, str(path), error)


def parse_object(text: str, where: str, error: type[QuantError] = CheckpointError) -> dict[str, Any]:
    """The JSON object that a text holds; `where` names it in errors. Raises as `read_object`."""
    return _object(_parsed(text, where, error), where, error)


def _parsed(text: str, where: str, error: type[QuantError]) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise error(f"{where}: damaged: nested too deeply") from None
    except ValueError as cause:
        raise error(f"{where}: damaged: {first_line(cause)}") from None


def _object(body: Any, where: str, error: type[QuantError]) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise error(f"{where}: damaged: not a JSON object")
    return body


def text_of(body: object, where: str, error: type[QuantError] = CheckpointError, **layout: Any) -> str:
    """A value as JSON that every reader takes: Python alone would also write NaN and Infinity, which JSON has not.

    Args:
        body: plain values.
        where: names the file in errors.
        error: what is raised.
        layout: keywords of `json.dumps`.

    Raises:
        QuantError: of the class `error`: names the first number that is not finite.
    """
    try:
        text = json.dumps(body, allow_nan=False, **layout)
    except ValueError:
        bad = next(_not_finite(body), "a number")
        raise error(f"{where}: {bad} is not finite, which JSON cannot hold") from None
    return text


def _not_finite(value: object, key: str = "") -> Iterator[str]:
    """The keys of the numbers that are not finite; an item of a list goes by its 'name' where it has one."""
    if isinstance(value, float) and not math.isfinite(value):
        yield key
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _not_finite(each, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list | tuple):
        for i, each in enumerate(value):
            name = each.get("name", i) if isinstance(each, dict) else i
            yield from _not_finite(each, f"{key}[{name}]")


def json_rows(path: Path, error: type[QuantError] = CheckpointError) -> Iterator[dict[str, Any]]:
    """The rows of a data set in JSON, read as they are asked for: one a line, or all in one list.

    Not by Arrow, whose parser ends the whole process on some files: nested ones, a list that begins with null.

    Args:
        path: a .jsonl or .json file. A row that is a text is {"text": it}.
        error: what is raised.

    Raises:
        QuantError: of the class `error`: unreadable, not UTF-8, not JSON, nested deeply, or a row that is no object.
    """
    _check_nesting(path, error)
    try:
        with io.TextIOWrapper(open_regular(path), encoding="utf-8-sig") as file:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            if path.suffix.lower() == ".jsonl" or (not first.lstrip().startswith("[") and _is_json(first)):
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield _row(line, f"{path}: line {number}", error)
                return
            body = _value(file.read(), str(path), error)
    except (OSError, UnicodeDecodeError) as cause:
        raise error(f"{path}: not readable as json: {cut(first_line(cause), 300)}") from None
    for number, item in enumerate(body if isinstance(body, list) else [body], 1):
        yield _row(item, f"{path}: row {number}", error, parsed=True)


def _row(item: Any, where: str, error: type[QuantError], *, parsed: bool = False) -> dict[str, Any]:
    value = item if parsed else _value(item, where, error)
    if isinstance(value, str):
        return {"text": value}
    if not isinstance(value, dict):
        raise error(f"{where}: a row must be an object or a text, got {shown(value)}")
    return value


def _value(text: str, where: str, error: type[QuantError]) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as cause:
        raise error(f"{where}: not readable as json: {cut(first_line(cause), 300)}") from None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _check_nesting(path: Path, error: type[QuantError]) -> None:
    """Checks that a file of JSON, of whatever kind, is not nested deeply.

    Args:
        path: the file; read line by line.
        error: what is raised.

    Raises:
        QuantError: of the class `error`: nested more than `MOST_NESTED` deep, or unreadable.
    """
    depth = 0
    try:
        with open_regular(path) as file:
            for number, line in enumerate(file, 1):
                for found in _LEVELS.finditer(line):
                    depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(found.group(), 0)
                    if depth > MOST_NESTED:
                        raise error(f"{path}: line {number}: nested more than {MOST_NESTED} levels deep")
    except OSError as cause:
        raise error(f"{path}: cannot be read: {first_line(cause)}") from None
