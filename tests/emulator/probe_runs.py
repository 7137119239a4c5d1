"""What probes give on the emulator, each run once."""

from __future__ import annotations

from functools import cache

import torch

from tests.emulator.emulator import compile_kernel
from tests.emulator.probes import PROBES, Probe, sources

_BY_NAME = {probe.name: probe for probe in PROBES}


@cache
def ran(name: str) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    """Inputs and outputs of a probe."""
    probe: Probe = _BY_NAME[name]
    inputs, outputs = probe.inputs(), probe.empty_outputs()
    program = compile_kernel(probe.build, probe.arch, sources=sources())
    buffers = [*((x, False) for x in inputs), *((x, True) for x in outputs)]
    program.run(probe.launch(inputs, outputs), buffers)
    return inputs, outputs
