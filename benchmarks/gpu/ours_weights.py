"""The kernels of this project for 2:4 sparse and 4-bit weights, each with the weight in the order that it reads."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.gpu.contestants import FORMATS, Call, Contestant
from benchmarks.gpu.inputs import DTYPES, Inputs
from benchmarks.gpu.ours import ROWS, kernels, layout_of
from benchmarks.gpu.weights import GROUP
from quant.kernels import dispatch, ops

#: An input as the op gets it, and its scales.
Given = tuple[torch.Tensor, torch.Tensor | None]
#: By what a weight is.
OPS = {"2:4": "sparse_scaled_mm", "int4": "int4_mm"}


def contestants(inputs: Inputs, capability: tuple[int, int]) -> list[Contestant]:
    """Every compiled kernel of each format whose weight is not dense, bare and as used; arguments as of `ours`."""
    found = []
    for format_name, (_, x, weight) in FORMATS.items():
        if weight not in OPS:
            continue
        size = (inputs.shape.m, inputs.shape.n, inputs.shape.k)
        group = GROUP if weight == "int4" else 0
        for kernel, refusal in kernels(dtype_of(x), *size, capability, op=OPS[weight], group=group):
            for mode, make in (("bare", _bare), ("used", _used)):
                found.append(
                    Contestant(f"quant {kernel}", format_name, mode, make(inputs, format_name, kernel), refusal)
                )
    return found


def dtype_of(x: str) -> torch.dtype:
    """Of an input, `Format.x`."""
    return DTYPES.get(x, torch.bfloat16)


def _bare(inputs: Inputs, format_name: str, kernel: str) -> Callable[[], Call]:
    def prepare() -> Call:
        x = FORMATS[format_name].x
        given: Given = (inputs.x, None) if x == "bf16" else inputs.codes(x)[:2]
        multiply = _multiply(inputs, format_name, kernel)

        def run() -> torch.Tensor:
            with dispatch.only(kernel):
                return multiply(*given, None, "none")

        return run

    return prepare


def _used(inputs: Inputs, format_name: str, kernel: str) -> Callable[[], Call]:
    def prepare() -> Call:
        x, format_of_x = inputs.x, FORMATS[format_name].x
        multiply = _multiply(inputs, format_name, kernel)

        def run() -> torch.Tensor:
            with dispatch.only(kernel, ROWS):
                given: Given = (x, None) if format_of_x == "bf16" else ops.quantize_rows(x, DTYPES[format_of_x])
                return multiply(*given, inputs.bias, inputs.shape.activation)

        return run

    return prepare


def _multiply(
    inputs: Inputs, format_name: str, kernel: str
) -> Callable[[torch.Tensor, torch.Tensor | None, torch.Tensor | None, str], torch.Tensor]:
    """The op with its weight in place: input, its scales, bias, activation."""
    (_, x, weight), layout = FORMATS[format_name], layout_of(kernel)
    if weight == "int4":
        four = inputs.int4(layout)

        def packed(
            a: torch.Tensor, a_scale: torch.Tensor | None, bias: torch.Tensor | None, activation: str
        ) -> torch.Tensor:
            return ops.int4_mm(
                a, four.packed, four.scale, a_scale=a_scale, bias=bias, activation=activation,
                out_dtype=torch.bfloat16, layout=four.layout, n=four.n,
            )  # fmt: skip

        return packed
    kept = inputs.sparse(x, layout)
    b_scale = None if x == "bf16" else inputs.codes(x, "2:4").b_scale

    def sparse(
        a: torch.Tensor, a_scale: torch.Tensor | None, bias: torch.Tensor | None, activation: str
    ) -> torch.Tensor:
        return ops.sparse_scaled_mm(
            a, a_scale, kept.values, kept.meta, b_scale, bias=bias, activation=activation,
            out_dtype=torch.bfloat16, layout=kept.layout, n=kept.n,
        )  # fmt: skip

    return sparse
