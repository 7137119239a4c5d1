"""The dense kernels of this project, each by its name: one that does not accept a call is listed with its refusal."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.gpu.contestants import Call, Contestant
from benchmarks.gpu.inputs import DTYPES, Inputs
from quant.kernels import dispatch, ops
from quant.kernels.matmuls import table

#: Our kernel that quantizes inputs: what is allowed to run besides one matmul kernel.
(ROWS,) = (kernel.name for kernel in table.KERNELS if kernel.op == "quantize_rows")


def contestants(inputs: Inputs, capability: tuple[int, int]) -> list[Contestant]:
    """Every compiled matmul kernel of each format, bare and as used.

    Args:
        inputs: of the layer.
        capability: of the device, such as (9, 0).
    """
    found = []
    for format_name, dtype in DTYPES.items():
        for kernel, refusal in kernels(dtype, inputs.shape.m, inputs.shape.n, inputs.shape.k, capability):
            found.append(
                Contestant(f"quant {kernel}", format_name, "bare", _bare(inputs, format_name, kernel), refusal)
            )
            found.append(
                Contestant(f"quant {kernel}", format_name, "used", _used(inputs, format_name, kernel), refusal)
            )
    return found


def kernels(
    dtype: torch.dtype, m: int, n: int, k: int, capability: tuple[int, int], *, op: str = "scaled_mm", group: int = 0
) -> list[tuple[str, str | None]]:
    """The compiled kernels of an op for an input of this dtype: name, and why it does not accept the call or None.

    A weight is taken to be in the order that each of them reads.
    """
    call = dispatch.Call(op, "cuda", dtype, m, n, k, capability=capability, group=group)
    return [
        (each.name, refusal)
        for each, refusal in dispatch.explain(call)
        if each.compiled and any(not limits.dtypes or dtype in limits.dtypes for limits in each.limits)
    ]


def layout_of(kernel: str) -> str:
    """The order of a weight that a compiled kernel reads."""
    (layout,) = table.matmuls()[kernel].limits.layouts
    return layout


def _bare(inputs: Inputs, format_name: str, kernel: str) -> Callable[[], Call]:
    def prepare() -> Call:
        codes = inputs.codes(format_name)

        def run() -> torch.Tensor:
            with dispatch.only(kernel):
                return ops.scaled_mm(codes.a, codes.a_scale, codes.b, codes.b_scale, out_dtype=torch.bfloat16)

        return run

    return prepare


def _used(inputs: Inputs, format_name: str, kernel: str) -> Callable[[], Call]:
    def prepare() -> Call:
        x, bias, activation = inputs.x, inputs.bias, inputs.shape.activation
        _, _, b, b_scale = inputs.codes(format_name)

        def run() -> torch.Tensor:
            with dispatch.only(kernel, ROWS):
                codes, scale = ops.quantize_rows(x, DTYPES[format_name])
                return ops.scaled_mm(
                    codes, scale, b, b_scale, bias=bias, activation=activation, out_dtype=torch.bfloat16
                )

        return run

    return prepare
