"""What an evaluation starts from: prompts, read with Hugging Face datasets, the samples made of them, real clips."""

from __future__ import annotations

import glob
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.errors import QuantError

COLUMNS = ("prompt", "caption", "text")
CLIPS = (".avi", ".gif", ".mkv", ".mov", ".mp4", ".webm")
_READERS = {".txt": "text", ".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}


@dataclass(frozen=True)
class Sample:
    """One video that every model makes."""

    prompt: str
    seed: int

    @property
    def id(self) -> str:
        """12 hex digits that depend on prompt and seed only, so that more samples leave the others as they are."""
        return hashlib.sha256(f"{self.seed}\n{self.prompt}".encode()).hexdigest()[:12]


def make_samples(prompts: Sequence[str], seeds: Sequence[int]) -> tuple[Sample, ...]:
    """The i-th prompt with `seed + i` for each seed, sorted by id; one that comes twice is made once."""
    every = {Sample(prompt, seed + i) for seed in seeds for i, prompt in enumerate(prompts)}
    return tuple(sorted(every, key=lambda sample: sample.id))


def read_prompts(source: str | Sequence[str], limit: int | None = None) -> list[str]:
    """The first `limit` prompts of a list, a file (.txt, .jsonl, .json, .parquet, .csv), a folder or a data set's id.

    Rows are streamed: of a large data set only the first part is read. Empty ones are skipped.

    Raises:
        QuantError: it cannot be read, has no column of prompts, no text in it, or fewer than `limit`.
    """
    rows = _rows(source) if isinstance(source, str) else ({"prompt": prompt} for prompt in source)
    name = source if isinstance(source, str) else "prompts"
    found = list(itertools.islice(_texts(rows, name), limit))
    if not found:
        raise QuantError(f"{name}: no prompts in it; write one a line")
    if limit is not None and len(found) < limit:
        raise QuantError(f"{name}: {len(found)} prompts, {limit} samples were asked for")
    return found


def find_clips(folder: str) -> list[Path]:
    """The real clips of a folder, by name. Raises QuantError where there are none."""
    path = Path(folder)
    if not path.is_dir():
        raise QuantError(f"{path}: no such folder of reference clips")
    clips = sorted(file for file in path.rglob("*") if file.suffix.lower() in CLIPS and not file.name.startswith("."))
    if not clips:
        raise QuantError(f"{path}: no clips in it; {', '.join(CLIPS)} files are read")
    return clips


def _texts(rows: Iterable[Mapping[str, Any]], name: str) -> Iterator[str]:
    for number, row in enumerate(rows, start=1):
        column = next((column for column in COLUMNS if column in row), None)
        if column is None:
            raise QuantError(f"{name}: no column named {', '.join(COLUMNS)}; it has {', '.join(map(str, row))}")
        if not isinstance(row[column], str):
            raise QuantError(f"{name}: row {number}: '{column}' must be text, got {row[column]!r}")
        # Editors on Windows start a file with a byte order mark.
        if prompt := row[column].removeprefix("\ufeff").strip():
            yield prompt


def _rows(source: str) -> Iterator[Mapping[str, Any]]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise QuantError("reading prompts needs Hugging Face datasets: pip install 'quant-video[eval]'") from None
    path = Path(source)
    if path.is_file() and path.suffix.lower() not in _READERS:
        raise QuantError(f"{path}: prompts are read from {', '.join(_READERS)} files")
    if path.is_absolute() and not path.exists():
        raise QuantError(f"{path}: no such prompt file or folder")
    if path.is_file() and path.stat().st_size == 0:
        return
    try:
        # Streaming copies nothing into the user's cache. datasets takes a file's name for a pattern: so it is escaped.
        if path.is_file():
            reader, files = _READERS[path.suffix.lower()], glob.escape(str(path))
            loaded = load_dataset(reader, data_files={"train": files}, streaming=True)
        else:
            loaded = load_dataset(source, streaming=True)
        splits = list(loaded)
        split = "train" if "train" in splits else splits[0]
        if split != "train" and len(splits) > 1:
            raise QuantError(f"{source}: has no split 'train' but {', '.join(splits)}: give a file of prompts instead")
        yield from loaded[split]
    except QuantError:
        raise
    except Exception as error:  # datasets raises what its readers raise, of many kinds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise QuantError(f"{source}: prompts cannot be read: {reason}") from None
