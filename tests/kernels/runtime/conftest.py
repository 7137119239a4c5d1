"""A machine with GPUs, as far as the launch of a kernel sees one."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from quant.kernels.runtime import availability, cupy_launch
from tests.kernels.runtime.fake_cupy import Record, fake_cupy

#: Compute capabilities of the machine's devices.
CAPABILITIES = [(9, 0), (8, 6), (8, 7)]


class Machine:
    """Settings of the pretended machine, to be changed by a test.

    Attributes:
        cupy: what was asked of CuPy.
        current: torch's current device.
        capturing: whether its stream records a CUDA graph.
        streams: torch's current stream of each device.
    """

    def __init__(self) -> None:
        self.cupy = Record()
        self.current = 0
        self.capturing = False
        self.streams = [0, 0, 0]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Three NVIDIA GPUs, one of them unsupported, with CuPy installed and nothing loaded yet."""
    found = Machine()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(CAPABILITIES))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: found.current)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: CAPABILITIES[index])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: found.capturing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=found.streams[index]))
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(found.cupy))
    monkeypatch.setattr(cupy_launch, "_loaded", {})
    availability._reason.cache_clear()
    return found
