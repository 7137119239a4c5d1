"""Made-up measurements. No figure here was ever measured: they are round numbers that make tables easy to check."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.gpu import figures, results
from benchmarks.gpu.entries import Entry, Spread
from benchmarks.gpu.shapes import Rows, Shape

SHAPE = Shape("Made up", "ffn up", 1000, 2000, 1000, "gelu_tanh")


def timed(name: str, format_name: str, mode: str, seconds: float) -> Entry:
    """A contestant that was right and timed."""
    return Entry(name, format_name, mode, "timed", None, 0.001, Spread(seconds, seconds / 2, seconds * 2, 7))


@pytest.fixture
def measured() -> dict[str, Any]:
    """What the benchmark leaves: bf16 in 4 ms, ours in 2 ms, a rival in 1 ms, and one of each other outcome."""
    entries = [
        timed("torch bf16", "bf16", "bare", 0.004),
        timed("quant a", "int8", "bare", 0.002),
        timed("rival", "int8", "bare", 0.001),
        Entry("quant b", "fp8", "bare", "refused", "runs on sm_89, not on sm_90"),
        Entry("absent", "int8", "bare", "refused", "the package absent is not installed"),
        Entry("broken", "int8", "bare", "failed", "RuntimeError: a | b"),
    ]
    rows = [
        timed("quant quantize_rows", "int8", "plain", 0.001),
        Entry("torch.compile", "int8", "plain", "skipped", "no time to compile"),
    ]
    skipped = [("Another: M 1", "time was over")]
    return figures.body([(SHAPE, entries)], [(Rows(1000, 1000, True), rows)], 1e10, skipped)


@pytest.fixture
def body(measured: dict[str, Any]) -> dict[str, Any]:
    """A whole results file."""
    facts = {
        "device": {"name": "Made-up GPU", "capability": [9, 0], "multiprocessors": 3, "memory_bytes": 2**30},
        "driver": None,
        "cuda_runtime": "1.2",
        "nvrtc": "1.3",
        "torch": "0.0",
        "commit": None,
        "dirty": None,
        "date": "2000-01-01T00:00:00+00:00",
    }
    steps = [{"name": "tests", "status": "failed", "says": "1 failed", "seconds": 1.0}]
    made = {"int8": {"psnr": [50.0, None], "seconds": 1.0, "not_by_a_kernel": []}}
    videos = {"model": "made/up", "prompts": ["x"], "made": made}
    return results.assembled(facts, (None, {"sm_mhz": 1000.0}), measured, videos, steps, quick=True)
