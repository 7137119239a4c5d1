"""Small evaluations: made-up frames and figures, no model."""

from __future__ import annotations

import math

import numpy as np
import pytest

from quant.eval.metrics.paired import Frames
from quant.eval.results import Measurement, Results, Sample


@pytest.fixture
def results() -> Results:
    """Two candidates and three prompts; one clip is identical, one prompt holds what HTML would read as markup."""
    judged = {"shape": (True, True, False), "colour": (True, False, True)}
    return Results(
        model="toy/<model>",
        settings={"height": 8, "width": 12, "guidance_scale": 3.0},
        batch=2,
        latents_sha256="ab" * 32,
        versions={"torch": "2.9", "python": "3.11"},
        samples=(Sample("a red circle", 4), Sample('<script>alert("&")</script>', 5), Sample("plain", 6)),
        original=Measurement("original", "bf16", 2_000_000, 2_000_000, 0.25, (), {**judged}),
        candidates=(
            Measurement("w8a8", "W8A8", 1_100_000, 2_000_000, 0.5, (30.0, math.inf, 20.0), {**judged}),
            Measurement("fp8 <b>", "FP8", 1_000_000, 2_000_000, None, (41.0, 42.0, 43.0), {**judged}),
        ),
    )


@pytest.fixture
def frames() -> list[Frames]:
    """The original's clips and each candidate's, [3, 5, 8, 12, 3]."""
    generator = np.random.default_rng(0)
    original = generator.random((3, 5, 8, 12, 3), dtype=np.float32)
    moved = [(original + generator.normal(0, 0.05, original.shape)).clip(0, 1).astype(np.float32) for _ in range(2)]
    return [original, *moved]
