"""Shares of kernels, and a profile of a real step."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from quant.errors import QuantError
from quant.eval.speed.shares import REST, seconds_by_name, shares, step_shares
from tests import tiny_pipeline


def test_the_largest_are_named_and_all_add_up() -> None:
    found = shares({"a": 1.0, "b": 5.0, "c": 2.0, "d": 2.0}, top=2)
    assert found == [{"name": "b", "share": 0.5}, {"name": "c", "share": 0.2}, {"name": REST, "share": 0.3}]
    assert shares({"a": 2.0}) == [{"name": "a", "share": 1.0}]
    assert shares({}) == []


def _event(key: str, device: str, cpu: float, gpu: float) -> Any:
    kind = SimpleNamespace(name=device)
    return SimpleNamespace(key=key, device_type=kind, self_cpu_time_total=cpu, self_device_time_total=gpu)


def test_each_device_has_its_own_events() -> None:
    events = [
        _event("aten::mm", "CPU", 40.0, 900.0),  # an operation is given its kernels' time: not to be counted twice
        _event("cudaLaunchKernel", "CPU", 30.0, 0.0),
        _event("gemm", "CUDA", 0.0, 900.0),
        _event("gemm", "CUDA", 0.0, 100.0),
        _event("idle", "CUDA", 0.0, 0.0),
    ]
    assert seconds_by_name(events, cuda=True) == pytest.approx({"gemm": 1e-3})
    assert seconds_by_name(events, cuda=False) == pytest.approx({"aten::mm": 40e-6, "cudaLaunchKernel": 30e-6})


def test_only_a_denoising_step_is_looked_at(capfd: pytest.CaptureFixture[str]) -> None:
    pipeline = tiny_pipeline.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.decode = None  # the call is stopped before
    call = {**tiny_pipeline.SETTINGS, "prompt": "snow"}
    found = step_shares(pipeline, call, cuda=False)
    names = {each["name"] for each in found}
    assert sum(each["share"] for each in found) == pytest.approx(1)
    assert "aten::addmm" in names
    assert not names & {"aten::embedding", "aten::upsample_nearest2d"}  # of the text encoder and the VAE
    with pytest.raises(QuantError, match="no second denoising step was seen"):
        step_shares(pipeline, {**call, "num_inference_steps": 1, "output_type": "latent"}, cuda=False)
    os.write(2, b"heard")
    assert capfd.readouterr().err == "heard"  # and none of the profiler's notes
