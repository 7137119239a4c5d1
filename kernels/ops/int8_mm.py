"""`int8_mm`: a matmul with 8-bit weights of an input that is not quantized."""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.limits import Call, Implementation, Limits
from quant.kernels.numerics import FLOATS
from quant.kernels.ops.base import Op
from quant.kernels.ops.checks import check_ending, check_groups, check_input, check_operands
from quant.kernels.ops.matmul import ENDING, columns_of_group, epilogue, on_rows, rows_of
from quant.kernels.reference import dequantized, finish

NAME = "int8_mm"


def int8_mm(
    a: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
    gate: torch.Tensor | None = None,
    out_dtype: torch.dtype,
    out_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """out = a @ b.T with 8-bit weights b = code * b_scale for an input that is not quantized.

    Args:
        a: [..., K], 2 to 4 dimensions, float32, bfloat16 or float16; the weight is rounded to its dtype.
        b: int8 [N, K].
        b_scale: float32, bfloat16 or float16 [N, G], each for K/G columns.
        bias, activation, residual, gate, out_dtype, out_scale: as in `scaled_mm`.

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    given = Arguments(a, b, b_scale, bias, activation, residual, gate, out_dtype, out_scale)
    out: torch.Tensor = OP(given)
    return out


class Arguments(NamedTuple):
    """As the schema has them."""

    a: torch.Tensor
    b: torch.Tensor
    b_scale: torch.Tensor
    bias: torch.Tensor | None
    activation: str
    residual: torch.Tensor | None
    gate: torch.Tensor | None
    out_dtype: torch.dtype
    out_scale: torch.Tensor | None


SCHEMA = f"(Tensor a, Tensor b, Tensor b_scale, {ENDING}) -> Tensor"


def fake(given: Arguments) -> torch.Tensor:
    """The result without its numbers."""
    return given.a.new_empty([*given.a.shape[:-1], given.b.shape[0]], dtype=given.out_dtype)


def check(given: Arguments, op: str = NAME) -> None:
    """Raises ValueError for what the op does not take, in the name of the op that was called."""
    a, b = given.a, given.b
    check_input(op, a, FLOATS)
    if b.ndim != 2 or b.dtype != torch.int8 or b.shape[1] != a.shape[-1]:
        raise ValueError(f"{op}: b must be int8 [N, {a.shape[-1]}], got {list(b.shape)} of {b.dtype}")
    check_groups(op, given.b_scale, b.shape[0], b.shape[1])
    check_operands(op, a, given._asdict(), codes=("b",))
    check_ending(op, given, (*a.shape[:-1], b.shape[0]))


def call_of(given: Arguments) -> Call:
    """What its implementation is chosen by."""
    a, (n, k) = given.a, given.b.shape
    return Call(NAME, a.device.type, a.dtype, rows_of(a), n, k, group=columns_of_group(k, given.b_scale.shape[1]))


def run(given: Arguments) -> torch.Tensor:
    """On the rows of a; scales of the weight are by group, which no epilogue applies."""
    a, b, b_scale, n = given.a, given.b, given.b_scale, given.b.shape[0]
    return on_rows(OP.chosen(given), a, n, b, b_scale, epilogue(given, a, n, None, None))


def reference(a: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """On a [M, K]."""
    return finish(a.float() @ dequantized(b, b_scale, None, a.dtype).T, epilogue)


_PLAIN = (Implementation("reference", NAME, (Limits(dtypes=FLOATS),), reference),)
OP = Op(NAME, SCHEMA, Arguments, check, fake, call_of, run, _PLAIN)
