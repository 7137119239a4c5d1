"""Prompt files, read with Hugging Face datasets: .txt (one a line), .jsonl/.json, .parquet, .csv."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from quant.errors import CalibrationError
from quant.text import first_line

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
        raise CalibrationError(f"prompts must be strings, got {wrong!r}")
    if not prompts:
        raise CalibrationError("no prompts were given; calibration needs at least one")
    return prompts[:limit]


def _from_file(path: Path, limit: int | None) -> list[str]:
    if not path.is_file():
        raise CalibrationError(f"{path}: no such prompt file")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise CalibrationError(f"{path}: prompts are read from {', '.join(_READERS)} files")
    if path.stat().st_size == 0:
        raise CalibrationError(f"{path}: no prompts in it; write one a line")
    prompts = []
    for i, row in enumerate(_rows(path, reader)):
        column = next((name for name in COLUMNS if name in row), None)
        if column is None:
            raise CalibrationError(f"{path}: no column named {', '.join(COLUMNS)}; it has {', '.join(map(str, row))}")
        prompt = row[column]
        if not isinstance(prompt, str):
            raise CalibrationError(f"{path}: row {i + 1}: '{column}' must be text, got {prompt!r}")
        prompt = prompt.removeprefix("\ufeff").strip()  # editors on Windows start a file with a byte order mark
        if prompt:
            prompts.append(prompt)
        if limit is not None and len(prompts) == limit:
            break
    if not prompts:
        raise CalibrationError(f"{path}: no prompts in it; write one a line")
    return prompts


def _rows(path: Path, reader: str) -> list[dict[str, object]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise CalibrationError("reading prompt files needs Hugging Face datasets: pip install datasets") from None
    try:
        # Streaming, so that nothing is copied into the user's cache folder. Escaped, because datasets takes the name
        # for a pattern: "prompts[1].txt" would read "prompts1.txt".
        return list(load_dataset(reader, data_files=glob.escape(str(path)), split="train", streaming=True))
    except Exception as error:  # datasets raises what its readers raise, of many kinds
        raise CalibrationError(f"{path}: not readable as {reader}: {first_line(error)}") from None
