"""Where a denoising step's time goes, kernel by kernel: torch.profiler between the ends of two steps."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch

from quant.errors import QuantError
from quant.pipelines.stepping import watched

#: How many kernels are named; the others are one entry.
TOP = 12
REST = "all others"
ON_GPU = "share of the device's busy time in the second denoising step, by kernel"
ON_CPU = "share of the second denoising step by operation on a CPU, without those that it calls: no kernels"


def shares(seconds: Mapping[str, float], top: int = TOP) -> list[dict[str, Any]]:
    """The `top` names with the most time, the most first, and the rest as one entry; shares add up to 1."""
    whole = sum(seconds.values())
    if whole <= 0:
        return []
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    found = [{"name": name, "share": value / whole} for name, value in ordered[:top]]
    if ordered[top:]:
        found.append({"name": REST, "share": sum(value for _, value in ordered[top:]) / whole})
    return found


def seconds_by_name(averages: Iterable[Any], *, cuda: bool) -> dict[str, float]:
    """Seconds by kernel, or on a CPU by operation without what it calls.

    Args:
        averages: torch.profiler's `key_averages()`, whose times are microseconds.
        cuda: of the GPU's events; otherwise of the CPU's.
    """
    wanted = "CUDA" if cuda else "CPU"
    found: dict[str, float] = {}
    for each in averages:
        spent = each.self_device_time_total if cuda else each.self_cpu_time_total
        if each.device_type.name == wanted and spent > 0:
            found[each.key] = found.get(each.key, 0.0) + spent / 1e6
    return found


class _EnoughError(Exception):
    """What stops a call once its second step is over."""


def step_shares(pipeline: Any, call: Mapping[str, Any], *, cuda: bool) -> list[dict[str, Any]]:
    """The kernels of a call's second denoising step as `shares`; the call is stopped behind it.

    Encoders and the VAE are not in it: with few steps they would hide what quantization changes.

    Raises:
        QuantError: no second step was seen.
    """
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CUDA] if cuda else [ProfilerActivity.CPU]
    wait: Callable[[], None] = torch.cuda.synchronize if cuda else lambda: None
    profiler = profile(activities=activities)
    seen = 0

    def on_step(_latents: object) -> None:
        nonlocal seen
        wait()
        seen += 1
        with _unheard():
            if seen == 1:
                profiler.start()
                return
            profiler.stop()
        raise _EnoughError

    try:
        with suppress(_EnoughError), watched(pipeline, on_step) as reporting:
            pipeline(**call, **reporting)
    finally:
        if seen == 1:
            with _unheard():
                profiler.stop()
    if seen < 2:
        raise QuantError("no second denoising step was seen")
    return shares(seconds_by_name(profiler.key_averages(), cuda=cuda))


@contextmanager
def _unheard() -> Iterator[None]:
    """What is written to the process's stderr within it is lost: torch 2.13's profiler notes each start and stop there,
    between the lines of progress bars, and has no setting for it. Its errors are exceptions, and are raised.
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
