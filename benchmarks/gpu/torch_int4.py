"""What torch has for 4-bit weights of bf16 inputs: `_weight_int4pack_mm`, made for few tokens."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.gpu import expressions
from benchmarks.gpu.contestants import Call, Contestant
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.weights import GROUP
from quant.kernels.layouts import nibbles

NAME = "torch._weight_int4pack_mm"
#: It reads the weight again for every 16 rows: at those of a video it takes many times as long as bf16.
MOST_ROWS = 512
_INNER_K_TILES = 8


def contestants(inputs: Inputs) -> list[Contestant]:
    """Bare and as used; on shapes of many rows refused, for time."""
    rows = inputs.shape.m
    refusal = f"only tried on up to {MOST_ROWS} rows, for time, not on {rows}" if rows > MOST_ROWS else None
    return [
        Contestant(NAME, "w4a16", mode, _prepare(inputs, bare=mode == "bare"), refusal) for mode in ("bare", "used")
    ]


def _prepare(inputs: Inputs, *, bare: bool) -> Callable[[], Call]:
    def prepare() -> Call:
        weight = inputs.int4(nibbles.NAME)
        stored = nibbles.unpack(weight.packed, inputs.shape.k) - nibbles.LOWEST  # from 0 to 15
        scales = weight.scale.T.contiguous()
        beside = torch.stack([scales, torch.zeros_like(scales)], dim=-1)
        x, activation = inputs.x, inputs.shape.activation
        if x.device.type == "cpu":  # for tests: the CPU has a packing and a function of its own
            packed = torch._convert_weight_to_int4pack_for_cpu(stored.to(torch.int32), _INNER_K_TILES)
            multiply = torch._weight_int4pack_mm_for_cpu
        else:
            pairs = stored.to(torch.uint8)
            packed = torch._convert_weight_to_int4pack(pairs[:, ::2] << 4 | pairs[:, 1::2], _INNER_K_TILES)
            multiply = torch._weight_int4pack_mm

        def run() -> torch.Tensor:
            out = multiply(x, packed, GROUP, beside)
            return out if bare else expressions.finished(out + inputs.bias, activation)

        return run

    return prepare
