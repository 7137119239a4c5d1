"""The pass for memory, on counters that tests set."""

from __future__ import annotations

import pytest
import torch

from quant.eval.speed.memory import peak_memory


def test_what_was_there_and_what_only_loading_needs_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    held, peak = 100, 100

    def hold(size: int) -> None:
        nonlocal held, peak
        held += size
        peak = max(peak, held)

    def reset() -> None:
        nonlocal peak
        peak = held

    def load() -> str:
        hold(5000)
        hold(-4000)
        return "pipeline"

    def run(pipeline: str) -> None:
        assert pipeline == "pipeline"
        hold(300)
        hold(-300)

    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: held)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert peak_memory(load, run) == 1000 + 300
