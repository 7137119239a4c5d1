"""Prompts: of a file, .txt (one a line), .jsonl, .json, .parquet or .csv, of a folder, or of a data set on a hub."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from quant.errors import CalibrationError, QuantError
from quant.files.data_sets import rows
from quant.text import cut, shown

COLUMNS = ("prompt", "caption", "text")


def read_prompts(
    source: str | Path | Sequence[str],
    limit: int | None = None,
    *,
    enough: bool = True,
    error: type[QuantError] = CalibrationError,
) -> list[str]:
    """The prompts of a file, folder or data set, or a list of prompts, checked.

    Rows are read as they are asked for: of a large data set only the first part. Empty ones are skipped; a list is
    taken as it is.

    Args:
        source: a path, the id of a data set on a model hub, or the prompts themselves.
        limit: how many to take from the start.
        enough: refuse a source that has fewer than `limit`; a list of them may be shorter.
        error: what is raised.

    Raises:
        QuantError: of the class `error`: it cannot be read, has no column of prompts, no prompt in it, or too few.
    """
    if not isinstance(source, str | Path):
        return _listed(source, error)[:limit]
    found = list(itertools.islice(_texts(source, error), limit))
    if not found:
        raise error(f"{source}: no prompts in it; write one a line")
    if enough:
        check_enough(found, limit, str(source), error)
    return found


def check_enough(prompts: Sequence[object], limit: int | None, source: str, error: type[QuantError]) -> None:
    """Raises an error of the class `error` where there are fewer prompts, or rows, than asked for."""
    if limit is not None and len(prompts) < limit:
        raise error(f"{source}: {len(prompts)} prompts, {limit} samples were asked for: take fewer --samples")


def _listed(source: Sequence[str], error: type[QuantError]) -> list[str]:
    prompts = list(source)
    wrong = next((prompt for prompt in prompts if not isinstance(prompt, str)), None)
    if wrong is not None:
        raise error(f"prompts must be strings, got {shown(wrong)}")
    if not prompts:
        raise error("no prompts were given; calibration needs at least one")
    return prompts


def _texts(source: str | Path, error: type[QuantError]) -> Iterator[str]:
    for number, row in enumerate(rows(source, "prompts", error=error), start=1):
        column = next((name for name in COLUMNS if name in row), None)
        if column is None:
            has = cut(", ".join(map(str, row)), 300)
            raise error(f"{source}: no column named {', '.join(COLUMNS)}; it has {has}")
        prompt = row[column]
        if not isinstance(prompt, str):
            raise error(f"{source}: row {number}: '{column}' must be text, got {shown(prompt)}")
        prompt = clean(prompt)
        if prompt:
            yield prompt


def clean(text: str) -> str:
    """The text without blanks around it, and without the byte order mark that editors on Windows start a file with."""
    return text.removeprefix("\ufeff").strip()
