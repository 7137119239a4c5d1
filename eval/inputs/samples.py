"""What an evaluation starts from: prompts, and the samples made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quant.errors import QuantError
from quant.prompts import check_enough, read_prompts

MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class Sample:
    """One video that every model makes.

    Attributes:
        prompt: its prompt, or what else names its inputs.
        seed: of the noise.
        inputs: all that a pipeline is called with for it, as JSON; empty where that is the prompt alone.
    """

    prompt: str
    seed: int
    inputs: str = ""

    @property
    def id(self) -> str:
        """12 hex digits that depend on inputs and seed only, so that more samples leave the others as they are."""
        text = f"{self.seed}\n{self.prompt}" + (f"\n{self.inputs}" if self.inputs else "")
        return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


def described(sample: Sample) -> dict[str, Any]:
    """A sample for the results: its id, prompt and seed, and its other inputs where it has any."""
    more = {"inputs": json.loads(sample.inputs)} if sample.inputs else {}
    return {"id": sample.id, "prompt": sample.prompt, "seed": sample.seed, **more}


def make_samples(
    prompts: Sequence[str], seeds: Sequence[int], inputs: Sequence[str] | None = None
) -> tuple[Sample, ...]:
    """The i-th prompt, and what of `inputs` goes with it, with `seed + i` for each seed, sorted by id.

    One that comes twice is made once.

    Raises:
        QuantError: a seed that torch's generators do not take.
    """
    texts = inputs or [""] * len(prompts)
    every = {
        Sample(prompt, seed + i, text)
        for seed in seeds
        for i, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
    }
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
