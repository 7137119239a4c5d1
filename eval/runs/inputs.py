"""What an evaluation starts from: prompts, and the samples made of them."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quant.errors import QuantError
from quant.eval.runs.rows import rows
from quant.text import shown

COLUMNS = ("prompt", "caption", "text")
MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class Sample:
    """One video that every model makes."""

    prompt: str
    seed: int

    @property
    def id(self) -> str:
        """12 hex digits that depend on prompt and seed only, so that more samples leave the others as they are."""
        return hashlib.sha256(f"{self.seed}\n{self.prompt}".encode("utf-8", "backslashreplace")).hexdigest()[:12]


def make_samples(prompts: Sequence[str], seeds: Sequence[int]) -> tuple[Sample, ...]:
    """The i-th prompt with `seed + i` for each seed, sorted by id; one that comes twice is made once.

    Raises:
        QuantError: a seed that torch's generators do not take.
    """
    every = {Sample(prompt, seed + i) for seed in seeds for i, prompt in enumerate(prompts)}
    if (last := max((sample.seed for sample in every), default=0)) > MAX_SEED:
        raise QuantError(f"seed {last} of the last prompt is too large: torch takes seeds up to {MAX_SEED}")
    return tuple(sorted(every, key=lambda sample: sample.id))


def read_prompts(source: str | Sequence[str], limit: int | None = None) -> list[str]:
    """The first `limit` prompts of a list, a file (.txt, .jsonl, .json, .parquet, .csv), a folder or a data set's id.

    Rows are streamed: of a large data set only the first part is read. Empty ones are skipped.

    Raises:
        QuantError: it cannot be read, has no column of prompts, no text in it, or fewer than `limit`.
    """
    lines = rows(source, "prompts") if isinstance(source, str) else ({"prompt": prompt} for prompt in source)
    name = source if isinstance(source, str) else "prompts"
    found = list(itertools.islice(_texts(lines, name), limit))
    if not found:
        raise QuantError(f"{name}: no prompts in it; write one a line")
    if limit is not None and len(found) < limit:
        raise QuantError(f"{name}: {len(found)} prompts, {limit} samples were asked for")
    return found


def _texts(lines: Iterable[Mapping[str, Any]], name: str) -> Iterator[str]:
    for number, row in enumerate(lines, start=1):
        column = next((column for column in COLUMNS if column in row), None)
        if column is None:
            raise QuantError(f"{name}: no column named {', '.join(COLUMNS)}; it has {', '.join(map(str, row))}")
        if not isinstance(row[column], str):
            raise QuantError(f"{name}: row {number}: '{column}' must be text, got {shown(row[column])}")
        # Editors on Windows start a file with a byte order mark.
        if prompt := row[column].removeprefix("\ufeff").strip():
            yield prompt
