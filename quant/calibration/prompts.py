"""Prompt files: .txt (one a line), .parquet and .csv, read with Hugging Face datasets, and .jsonl/.json."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from quant.errors import CalibrationError
from quant.json_files import json_rows
from quant.places import is_file
from quant.text import cut, first_line, shown

COLUMNS = ("prompt", "caption", "text")
_READERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


def read_prompts(source: str | Path | Sequence[str], limit: int | None = None) -> list[str]:
    """The prompts of a file, or a list of prompts, checked.

    Args:
        source: a path, or the prompts themselves.
        limit: how many to take from the start.

    Raises:
        CalibrationError: no such file, an unknown kind, no prompt column, or no prompt in it.
    """
    if isinstance(source, str | Path):
        return _from_file(Path(source), limit)
    prompts = list(source)
    wrong = next((prompt for prompt in prompts if not isinstance(prompt, str)), None)
    if wrong is not None:
        raise CalibrationError(f"prompts must be strings, got {shown(wrong)}")
    if not prompts:
        raise CalibrationError("no prompts were given; calibration needs at least one")
    return prompts[:limit]


def _from_file(path: Path, limit: int | None) -> list[str]:
    if not is_file(path):
        raise CalibrationError(f"{cut(str(path), 300)}: no such prompt file")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CalibrationError(f"{path}: prompts are read from {', '.join(_READERS)} files")
    if path.stat().st_size == 0:
        raise CalibrationError(f"{path}: no prompts in it; write one a line")
    prompts = []
    for i, row in enumerate(_rows(path, reader)):
        column = next((name for name in COLUMNS if name in row), None)
        if column is None:
            has = cut(", ".join(map(str, row)), 300)
            raise CalibrationError(f"{path}: no column named {', '.join(COLUMNS)}; it has {has}")
        prompt = row[column]
        if not isinstance(prompt, str):
            raise CalibrationError(f"{path}: row {i + 1}: '{column}' must be text, got {shown(prompt)}")
        prompt = prompt.removeprefix("\ufeff").strip()  # editors on Windows start a file with a byte order mark
        if prompt:
            prompts.append(prompt)
        if limit is not None and len(prompts) == limit:
            break
    if not prompts:
        raise CalibrationError(f"{path}: no prompts in it; write one a line")
    return prompts


def _rows(path: Path, reader: str) -> Iterator[dict[str, object]]:
    """The rows of a file, read as they are asked for."""
    if reader == "json":
        yield from json_rows(path, CalibrationError)
        return
    try:
        from datasets import load_dataset
    except ImportError:
        raise CalibrationError("reading prompt files needs Hugging Face datasets: pip install datasets") from None
    logger = logging.getLogger("datasets")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # it logs what it raises, and what it raises is said below
    try:
        # Streaming, so that nothing is copied into the user's cache folder. Escaped, because datasets takes the name
        # for a pattern: "prompts[1].txt" would read "prompts1.txt".
        yield from load_dataset(reader, data_files=glob.escape(str(path)), split="train", streaming=True)
    except Exception as error:  # datasets raises what its readers raise, of many kinds
        raise CalibrationError(f"{path}: not readable as {reader}: {cut(first_line(error), 300)}") from None
    finally:
        logger.setLevel(before)
