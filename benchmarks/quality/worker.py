"""Measures one candidate in a process of its own, so that its peak memory is its own.

`python -m benchmarks.quality.worker EXAMPLE KEY FILE CACHE CLIPS`
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import quant
from benchmarks.quality.candidates import CANDIDATES, Candidate
from benchmarks.quality.conditions import Conditions, versions
from benchmarks.quality.makers import MAKERS
from benchmarks.quality.subjects import subject
from quant.eval.frames import Frames
from quant.eval.metrics.psnr import paired_psnr
from quant.eval.shapes.judge import stray, verdicts

#: Pixels from the source's path up to which an edit has kept the motion, as a mean over its frames.
KEPT = 1.0


def measure(candidate: Candidate, conditions: Conditions, cache: Path) -> dict[str, Any]:
    """Everything found about one candidate, as plain data."""
    reference = conditions.original(cache)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        torch.set_num_threads(1)
        begin = time.perf_counter()
        pipe, left = MAKERS[candidate.maker](candidate, conditions, Path(folder) / "made")
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        body = _of_checkpoint(candidate, Path(folder) / "made") if candidate.maker == "quant" else {}
        frames = conditions.videos(pipe)
    psnr = paired_psnr(reference, frames)
    return {
        "psnr": [None if np.isinf(value) else round(value, 3) for value in psnr],
        "judged": judged(frames, conditions),
        **({"layers_left": len(left)} if left else {}),
        "making_seconds": seconds,
        "making_peak_bytes": peak,
        "versions": versions(),
        **body,
    }


def judged(frames: Frames, conditions: Conditions) -> dict[str, tuple[bool, ...]]:
    """By attribute, whether each video shows what its prompt says; of edits also whether it moves as its source."""
    found = verdicts(frames, conditions.prompts)
    sources = conditions.sources()
    if not sources:
        return found
    kept = (stray(video, source) <= KEPT for video, source in zip(frames, sources, strict=True))
    return {**found, "motion": tuple(kept)}


def _of_checkpoint(candidate: Candidate, folder: Path) -> dict[str, Any]:
    components = quant.inspect(folder).components
    return {
        "recipe_sha256": candidate.recipe.sha256,
        "stored_bytes": sum(component.nbytes for component in components),
        "bf16_bytes": sum(component.bf16_nbytes for component in components),
    }


def main() -> None:
    name, key, out, cache, clips = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5])
    candidate = next(each for each in CANDIDATES if each.key == key)
    found = measure(candidate, Conditions.of(subject(name), clips or None), cache)
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
