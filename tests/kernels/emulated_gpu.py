"""A GPU played by the emulator: ops on CPU tensors run by the CUDA kernels of an architecture, whole models with them.

Everything between an op's call and the launch is the real thing: dispatch, the order of weights, tiles, host plans.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from quant.kernels import compiled, dispatch, prepacking, registration
from quant.kernels.arguments import Prologue
from quant.kernels.host import quantize_rows as rows_host
from quant.kernels.host.operands import Multiplied
from quant.kernels.limits import Call, Implementation
from quant.kernels.runtime import cupy_launch
from quant.kernels.runtime.architectures import architecture
from tests.kernels.emulated import launched

#: Few, so that the persistent blocks of Hopper have several tiles each.
MULTIPROCESSORS = 4


def play(monkeypatch: pytest.MonkeyPatch, arch: str) -> Counter[str]:
    """Has ops run by the kernels of `arch` in the emulator until the test ends.

    Returns:
        How often each kernel was launched, filled in as it happens.
    """
    here = architecture(arch)
    launches: Counter[str] = Counter()

    def on_gpu(call: Call) -> Call:
        return replace(call, device="cuda", capability=here.capability, no_compiled=None)

    def run(planned: Multiplied, device: torch.device) -> torch.Tensor:
        launches[planned.launch.build.kernel] += 1
        launched(planned.launch, planned.held, [planned.out], arch, 0, "random", None)
        return planned.out

    def quantize_rows(
        x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, prologue: Prologue
    ) -> tuple[torch.Tensor, torch.Tensor]:
        planned = rows_host.plan(x, dtype, scale, prologue)
        launches[planned.launch.build.kernel] += 1
        launched(planned.launch, planned.held, [planned.codes, planned.scale], arch, 0, "random", None)
        return planned.codes, planned.scale

    for module in (registration, prepacking):
        made = module._call
        monkeypatch.setattr(module, "_call", lambda *given, _made=made, **named: on_gpu(_made(*given, **named)))

    def choose(call: Call) -> Implementation:
        """Dispatch took hold of the function when it was imported."""
        found = dispatch.choose(call)
        return replace(found, run=quantize_rows) if found.name == rows_host.KERNEL else found

    monkeypatch.setattr(registration, "choose", choose)
    monkeypatch.setattr(compiled, "_run", run)
    monkeypatch.setattr(compiled, "_multiprocessors", lambda device: MULTIPROCESSORS)
    monkeypatch.setattr(cupy_launch, "device_index", lambda device: 0)
    monkeypatch.setattr(cupy_launch, "device_architecture", lambda index: here)
    compiled.forget_tiles()
    monkeypatch.setattr(compiled, "_known_tile", compiled._known_tile.__wrapped__)
    return launches
