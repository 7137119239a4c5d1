"""What an evaluation starts from: prompts, and the samples made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from quant.errors import QuantError
from quant.prompts import check_enough, read_prompts

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


def prompts_of(source: str | Sequence[str], limit: int | None) -> list[str]:
    """The first `limit` prompts of a list or of what `quant.prompts.read_prompts` reads.

    Raises:
        QuantError: as that does; a list has fewer than `limit`.
    """
    found = read_prompts(source, limit, error=QuantError)
    check_enough(found, limit, source if isinstance(source, str) else "prompts", QuantError)
    return found
