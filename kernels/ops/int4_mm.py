"""`int4_mm`: a matmul with 4-bit weights, of an input in 16 bits or in codes.

With a float input the weight is dequantized in the input's dtype, as a kernel does it in registers. With an 8-bit input
each group is summed before its scale is applied: INT8 exactly, FP8 by exact products summed in FP32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from quant.kernels import weight_orders
from quant.kernels.arguments import Epilogue, Int4Weight
from quant.kernels.layouts import int4_fragments, nibbles
from quant.kernels.limits import Call, Implementation, Limits
from quant.kernels.numerics import CODES, FLOATS
from quant.kernels.ops import int_mm
from quant.kernels.ops.base import Op
from quant.kernels.ops.checks import (
    check_a_scale,
    check_ending,
    check_groups,
    check_input,
    check_operands,
    check_part,
    check_rows,
)
from quant.kernels.ops.matmul import ENDING, columns_of_group, epilogue, on_rows, rows_of
from quant.kernels.reference import accumulate, dequantized, finish

NAME = "int4_mm"
#: INT32 holds the sum of so many products of a code and a nibble: K * 127 * 8 < 2**31.
LARGEST_INT4_GROUP = (2**31 - 1) // (127 * -nibbles.LOWEST)


def int4_mm(
    a: torch.Tensor,
    b_packed: torch.Tensor,
    b_scale: torch.Tensor,
    b_zero: torch.Tensor | None = None,
    *,
    a_scale: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
    gate: torch.Tensor | None = None,
    out_dtype: torch.dtype,
    out_scale: torch.Tensor | None = None,
    layout: str = nibbles.NAME,
    n: int | None = None,
) -> torch.Tensor:
    """out = a @ b.T with 4-bit weights b = (code - b_zero) * b_scale, then the ending of `scaled_mm`.

    Args:
        a: [..., K], 2 to 4 dimensions: float32, bfloat16 or float16, and then the weight is rounded to that dtype; or
            codes, int8 or float8_e4m3fn, and then each group is summed by itself, INT8 in INT32, and scaled in float32.
        b_packed: int32 [N, ceil(K/8)], see `layouts.nibbles`.
        b_scale: bfloat16, float16 or float32 [N, G], each for K/G columns: a multiple of 8, or all of them.
        b_zero: int8 [N, G], only where a is floats.
        a_scale: of codes, float32, one a row, [..., 1], or one element for all.
        bias, activation, residual, gate, out_dtype, out_scale: as in `scaled_mm`.
        layout: order of the weight's tensors; in that of "int4_fragments_16" and "int4_fragments_8" b_packed is int32
            [ceil(K/64), ceil(N/16), 32, 4] and b_scale and b_zero are [G, 16 * ceil(N/16)], see
            `layouts.int4_fragments`.
        n: N; needed where the tensors do not have it, in every order but the first.

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    given = Arguments(
        a, a_scale, b_packed, b_scale, b_zero, bias, activation, residual, gate, out_dtype, out_scale, layout, n
    )
    out: torch.Tensor = OP(given)
    return out


class Arguments(NamedTuple):
    """As the schema has them."""

    a: torch.Tensor
    a_scale: torch.Tensor | None
    b_packed: torch.Tensor
    b_scale: torch.Tensor
    b_zero: torch.Tensor | None
    bias: torch.Tensor | None
    activation: str
    residual: torch.Tensor | None
    gate: torch.Tensor | None
    out_dtype: torch.dtype
    out_scale: torch.Tensor | None
    layout: str = nibbles.NAME
    n: int | None = None

    @property
    def weight(self) -> Int4Weight:
        """The weight with its number of rows."""
        n = self.b_packed.shape[0] if self.n is None else self.n
        return Int4Weight(self.b_packed, self.b_scale, self.b_zero, n, self.layout)


SCHEMA = (
    f"(Tensor a, Tensor? a_scale, Tensor b_packed, Tensor b_scale, Tensor? b_zero, {ENDING}, "
    f'str layout="{nibbles.NAME}", SymInt? n=None) -> Tensor'
)


def fake(given: Arguments) -> torch.Tensor:
    """The result without its numbers."""
    return given.a.new_empty([*given.a.shape[:-1], given.weight.n], dtype=given.out_dtype)


def check(given: Arguments, op: str = NAME) -> None:
    """Raises ValueError for what the op does not take, in the name of the op that was called."""
    a, b_packed, b_scale, b_zero, layout = given.a, given.b_packed, given.b_scale, given.b_zero, given.layout
    check_input(op, a, (*CODES, *FLOATS))
    k = a.shape[-1]
    if layout == nibbles.NAME and (
        b_packed.ndim != 2 or b_packed.dtype != torch.int32 or b_packed.shape[1] != nibbles.width(k)
    ):
        raise ValueError(
            f"{op}: b_packed must be int32 [N, {nibbles.width(k)}] for K = {k}, "
            f"got {list(b_packed.shape)} of {b_packed.dtype}"
        )
    n = check_rows(op, b_packed, layout, weight_orders.INT4, given.n)
    if layout == nibbles.NAME:
        check_groups(op, b_scale, n, k)
    else:
        check_part(op, "b_packed", b_packed, torch.int32, int4_fragments.shape(n, k), layout)
        _check_group_rows(op, b_scale, n, k, layout)
    if b_zero is not None and (b_zero.dtype != torch.int8 or b_zero.shape != b_scale.shape):
        raise ValueError(f"{op}: b_zero must be int8 {list(b_scale.shape)}, got {list(b_zero.shape)} of {b_zero.dtype}")
    if b_zero is not None and a.dtype in CODES:
        raise ValueError(f"{op}: zero points are for an input of floats; codes take a symmetric weight")
    group = k // given.weight.groups
    if a.dtype == torch.int8 and group > LARGEST_INT4_GROUP:
        raise ValueError(f"{op}: a group of {group} columns could overflow the INT32 sum; at most {LARGEST_INT4_GROUP}")
    check_a_scale(op, a, given.a_scale)
    check_operands(op, a, given._asdict(), codes=("a", "b_packed", "b_zero"))
    check_ending(op, given, (*a.shape[:-1], n))


def _check_group_rows(op: str, scale: torch.Tensor, n: int, k: int, layout: str) -> None:
    width = int4_fragments.groups_width(n)
    fits = scale.ndim == 2 and scale.shape[1] == width and scale.shape[0] >= 1 and k % scale.shape[0] == 0
    if not fits or (scale.shape[0] > 1 and k // scale.shape[0] % 8):
        raise ValueError(
            f"{op}: b_scale must be [G, {width}] in the order {layout}, with one for each group of columns, a "
            f"multiple of 8 that divides K = {k}, or one a row; got {list(scale.shape)}"
        )


def call_of(given: Arguments) -> Call:
    """What its implementation is chosen by."""
    a, weight, k = given.a, given.weight, given.a.shape[-1]
    group = columns_of_group(k, weight.groups)
    return Call(NAME, a.device.type, a.dtype, rows_of(a), weight.n, k, group=group, layout=weight.layout)


def run(given: Arguments) -> torch.Tensor:
    """On the rows of a; scales of the weight are by group, which no epilogue applies."""
    a, weight, n = given.a, given.weight, given.weight.n
    return on_rows(OP.chosen(given), a, n, weight, epilogue(given, a, n, given.a_scale, None))


def reference(a: torch.Tensor, b: Int4Weight, epilogue: Epilogue) -> torch.Tensor:
    """On a [M, K], with a weight in any order."""
    if a.dtype not in CODES:
        return finish(a.float() @ decoded(b, a.shape[1], a.dtype).T, epilogue)
    b = weight_orders.plain(b, a.shape[1])
    codes = nibbles.unpack(b.packed, a.shape[1])
    weight = codes if a.dtype == torch.int8 else codes.to(a.dtype)
    return finish(by_group(a, weight, b.scale, accumulate) * epilogue.a_scale, epilogue)


def decoded(b: Int4Weight, k: int, dtype: torch.dtype) -> torch.Tensor:
    """The weight of k columns in any order, as an input of this dtype meets it: float32 [N, k]."""
    b = weight_orders.plain(b, k)
    return dequantized(nibbles.unpack(b.packed, k), b.scale, b.zero, dtype)


#: a @ b.T in float32, of codes.
Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def by_group(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, multiply: Multiply) -> torch.Tensor:
    """sum over groups g of (a_g @ b_g.T) * scale_g in float32 [M, N], the groups added in order of K."""
    groups = scale.shape[1]
    total = torch.zeros(a.shape[0], b.shape[0], device=a.device)
    for group, (part_a, part_b) in enumerate(zip(a.chunk(groups, 1), b.chunk(groups, 1), strict=True)):
        total = total + multiply(part_a, part_b) * scale[:, group].float()
    return total


def by_torch(a: torch.Tensor, b: Int4Weight, epilogue: Epilogue) -> torch.Tensor:
    """The same of INT8, one product of torch's a group."""
    b = weight_orders.plain(b, a.shape[1])
    sums = by_group(a, nibbles.unpack(b.packed, a.shape[1]), b.scale, int_mm.product)
    return finish(sums * epilogue.a_scale, epilogue)


_PLAIN = (
    Implementation(int_mm.NAME, NAME, (int_mm.ON_CPU,), by_torch),
    Implementation("reference", NAME, (Limits(dtypes=(*CODES, *FLOATS)),), reference),
)
OP = Op(NAME, SCHEMA, Arguments, check, fake, call_of, run, _PLAIN)
