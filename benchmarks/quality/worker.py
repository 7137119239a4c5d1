"""Measures one candidate in a process of its own, so that its peak memory is its own: `python -m ... KEY FILE`."""

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
from quant.eval.metrics.psnr import paired_psnr
from quant.eval.shapes.judge import verdicts


def measure(candidate: Candidate, conditions: Conditions, cache: Path) -> dict[str, Any]:
    """Everything found about one candidate, as plain data."""
    reference = conditions.original(cache)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        torch.set_num_threads(1)
        begin = time.perf_counter()
        pipe = MAKERS[candidate.maker](candidate, conditions, Path(folder) / "made")
        seconds = time.perf_counter() - begin
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        body = _of_checkpoint(candidate, Path(folder) / "made") if candidate.maker == "quant" else {}
        frames = conditions.videos(pipe)
    psnr = paired_psnr(reference, frames)
    return {
        "psnr": [None if np.isinf(value) else round(value, 3) for value in psnr],
        "judged": verdicts(frames, conditions.prompts),
        "making_seconds": seconds,
        "making_peak_bytes": peak,
        "versions": versions(),
        **body,
    }


def _of_checkpoint(candidate: Candidate, folder: Path) -> dict[str, Any]:
    components = quant.inspect(folder).components
    return {
        "recipe_sha256": candidate.recipe.sha256,
        "stored_bytes": sum(component.nbytes for component in components),
        "bf16_bytes": sum(component.bf16_nbytes for component in components),
    }


def main() -> None:
    key, out, cache, clips = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    candidate = next(each for each in CANDIDATES if each.key == key)
    found = measure(candidate, Conditions.of_example(clips or None), cache)
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
