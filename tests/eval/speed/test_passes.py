"""What a failing call leaves behind, and what is compiled."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import pytest
import torch

from quant.eval.speed import device as devices
from quant.eval.speed.passes import attempted, compile_denoisers, one_by_one, reason_of, tools_for


def test_memory_of_a_failed_call_is_given_back_before_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[torch.Tensor]] = []
    seen: list[bool] = []
    monkeypatch.setattr(devices, "release", lambda: seen.append(gc.collect() >= 0 and held[0]() is None))

    def fails() -> None:
        tensor = torch.ones(3)
        held.append(weakref.ref(tensor))
        raise RuntimeError("out of memory\nand more")

    assert reason_of(fails) == "RuntimeError: out of memory"
    assert seen == [True]


def test_what_does_not_fail() -> None:
    assert attempted(lambda: 3) == 3
    assert reason_of(lambda: None) is None


def test_only_denoisers_are_compiled() -> None:
    compiled: list[str] = []

    def part(name: str) -> SimpleNamespace:
        return SimpleNamespace(compile=lambda: compiled.append(name))

    names = ("transformer", "vae", "text_encoder")
    compile_denoisers(SimpleNamespace(transformer_2=None, **{name: part(name) for name in names}))
    assert compiled == ["transformer"]


def test_memory_is_measured_on_gpus_only() -> None:
    assert tools_for(torch.device("cpu")).peak_memory is None
    assert tools_for(torch.device("cuda", 0)).peak_memory is devices.peak_memory


def test_each_is_told_when_it_is_done() -> None:
    said: list[tuple[str, int, int]] = []
    for name in one_by_one("loading", ["a", "b"], lambda *what: said.append(what)):
        assert len(said) == "ab".index(name)
    assert said == [("loading a", 1, 2), ("loading b", 2, 2)]
