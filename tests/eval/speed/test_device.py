"""A device's name, and what nvidia-smi says of it."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from quant.eval.speed.device import CPU_LABEL, ask, describe, label_of, name_of, parse_reading, peak_memory, read_gpu

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


def test_a_cpu_has_a_name_and_neither_clocks_nor_power() -> None:
    assert name_of(CPU)
    assert label_of(CPU, "Xeon") == CPU_LABEL == "reference arithmetic on a CPU: not a kernel's time"
    assert read_gpu(CPU, lambda command: pytest.fail("nothing is asked")) is None
    assert describe(CPU, "Xeon", None, None) == {"name": "Xeon", "type": "cpu", "clocks": None, "power_w": None}


def test_the_gpu_that_cuda_sees_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1234-ab"))
    asked: list[Sequence[str]] = []

    def answer(command: Sequence[str]) -> str:
        asked.append(command)
        return "1980, 1980, 3201, 120.53, [N/A]\n"

    before = read_gpu(GPU, answer)
    assert asked[0][-2:] == ["-i", "GPU-1234-ab"]
    assert asked[0][1] == "--query-gpu=clocks.sm,clocks.max.sm,clocks.mem,power.draw,power.limit"
    assert before is not None
    found = describe(GPU, "NVIDIA H200", before, {**before, "clocks.sm": 1700.0, "power.draw": 690.0})
    assert found["clocks"] == {
        "before": {"sm_mhz": 1980, "max_sm_mhz": 1980, "memory_mhz": 3201},
        "after": {"sm_mhz": 1700, "max_sm_mhz": 1980, "memory_mhz": 3201},
    }
    assert found["power_w"] == {"before": {"draw": 120.53, "limit": None}, "after": {"draw": 690, "limit": None}}
    assert label_of(GPU, "NVIDIA H200") == "measured on NVIDIA H200"


def test_a_gpu_that_says_nothing_has_no_clocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1"))
    assert read_gpu(GPU, lambda command: None) is None
    assert read_gpu(GPU, lambda command: "No devices were found") is None
    assert describe(GPU, "x", {"clocks.sm": 1.0}, None)["clocks"] is None


def test_lines_of_values() -> None:
    assert parse_reading(" 1 , [Not Supported]\n", ["a", "b"]) == {"a": 1.0, "b": None}
    assert parse_reading("1\n", ["a", "b"]) is None


def test_commands_that_are_absent_or_fail_say_nothing() -> None:
    assert ask(["no-such-command-at-all"]) is None
    assert ask(["false"]) is None
    assert ask(["sleep", "30"], timeout=0.05) is None
    assert ask(["echo", "12"]) == "12\n"


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
