"""`sparse_scaled_mm`: a matmul with a 2:4 sparse weight, whose kept values and their places are stored."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch

from quant.kernels import weight_orders
from quant.kernels.arguments import Epilogue, Sparse24Weight
from quant.kernels.layouts import sparse24
from quant.kernels.limits import Call, Implementation, Limits
from quant.kernels.numerics import CODES, FLOATS, LARGEST_INT8_K
from quant.kernels.ops import int_mm
from quant.kernels.ops.base import Op
from quant.kernels.ops.checks import (
    check_a_scale,
    check_ending,
    check_input,
    check_operands,
    check_part,
    check_rows,
)
from quant.kernels.ops.matmul import ENDING, epilogue, on_rows, rows_of
from quant.kernels.reference import accumulate, apply_scales, finish

NAME = "sparse_scaled_mm"


def sparse_scaled_mm(
    a: torch.Tensor,
    a_scale: torch.Tensor | None,
    b_values: torch.Tensor,
    b_meta: torch.Tensor,
    b_scale: torch.Tensor | None,
    *,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
    gate: torch.Tensor | None = None,
    out_dtype: torch.dtype,
    out_scale: torch.Tensor | None = None,
    fast_accumulate: bool = False,
    layout: str = sparse24.NAME,
    n: int | None = None,
) -> torch.Tensor:
    """`scaled_mm` with a 2:4 sparse weight; or, of floats without scales, only the product and its ending.

    Args:
        a: [..., K], 2 to 4 dimensions: codes, or float32, bfloat16 or float16.
        a_scale, b_scale: of codes, as in `scaled_mm`, but one a row or one in all; both None of floats.
        b_values: [N, K/2] of a's dtype; b_meta: uint8 [N, ceil(K/8)], see `layouts.sparse24`.
        bias, activation, residual, gate, out_dtype, out_scale, fast_accumulate: as in `scaled_mm`.
        layout: order of b_values and b_meta; for "mma_sparse24" and "wgmma_sparse24", whose b_meta is int32, see
            `layouts`.
        n: N; needed where the tensors do not have it, in every order but the first.

    Raises:
        ValueError: a shape, dtype or device that does not fit, or a K whose INT8 sum could overflow INT32.
    """
    ending = (bias, activation, residual, gate, out_dtype, out_scale)
    given = Arguments(a, a_scale, b_values, b_meta, b_scale, *ending, fast_accumulate, layout, n)
    out: torch.Tensor = OP(given)
    return out


class Arguments(NamedTuple):
    """As the schema has them."""

    a: torch.Tensor
    a_scale: torch.Tensor | None
    b_values: torch.Tensor
    b_meta: torch.Tensor
    b_scale: torch.Tensor | None
    bias: torch.Tensor | None
    activation: str
    residual: torch.Tensor | None
    gate: torch.Tensor | None
    out_dtype: torch.dtype
    out_scale: torch.Tensor | None
    fast_accumulate: bool = False
    layout: str = sparse24.NAME
    n: int | None = None

    @property
    def weight(self) -> Sparse24Weight:
        """The weight with its number of rows."""
        n = self.b_values.shape[0] if self.n is None else self.n
        return Sparse24Weight(self.b_values, self.b_meta, n, self.layout)


SCHEMA = (
    f"(Tensor a, Tensor? a_scale, Tensor b_values, Tensor b_meta, Tensor? b_scale, {ENDING}, "
    f'bool fast_accumulate=False, str layout="{sparse24.NAME}", SymInt? n=None) -> Tensor'
)


def fake(given: Arguments) -> torch.Tensor:
    """The result without its numbers."""
    return given.a.new_empty([*given.a.shape[:-1], given.weight.n], dtype=given.out_dtype)


def check(given: Arguments, op: str = NAME) -> None:
    """Raises ValueError for what the op does not take, in the name of the op that was called."""
    a, b_values, b_meta, layout = given.a, given.b_values, given.b_meta, given.layout
    check_input(op, a, (*CODES, *FLOATS))
    k = a.shape[-1]
    if k % sparse24.GROUP:
        raise ValueError(f"{op}: K must be a multiple of {sparse24.GROUP}, got {k}")
    if layout == sparse24.NAME and (b_values.ndim != 2 or b_values.dtype != a.dtype or b_values.shape[1] * 2 != k):
        raise ValueError(
            f"{op}: b_values must be {a.dtype} [N, {k // 2}], got {list(b_values.shape)} of {b_values.dtype}"
        )
    n = check_rows(op, b_values, layout, weight_orders.SPARSE24, given.n)
    if layout == sparse24.NAME:
        if b_meta.dtype != torch.uint8 or b_meta.shape != (n, sparse24.meta_width(k)):
            raise ValueError(
                f"{op}: b_meta must be uint8 [{n}, {sparse24.meta_width(k)}], "
                f"got {list(b_meta.shape)} of {b_meta.dtype}"
            )
    else:
        if a.itemsize > 2:
            raise ValueError(f"{op}: a weight in the order {layout} has elements of one or two bytes, a is {a.dtype}")
        values, meta = weight_orders.SPARSE_MODULES[layout].shapes(n, k, a.itemsize)
        check_part(op, "b_values", b_values, a.dtype, values, layout)
        check_part(op, "b_meta", b_meta, torch.int32, meta, layout)
    if a.dtype == torch.int8 and k > LARGEST_INT8_K:
        raise ValueError(f"{op}: K = {k} could overflow the INT32 sum; at most {LARGEST_INT8_K}")
    check_a_scale(op, a, given.a_scale)
    _check_b_scale(op, given.a_scale, given.b_scale, n)
    check_operands(op, a, given._asdict(), codes=("a", "b_values", "b_meta"))
    check_ending(op, given, (*a.shape[:-1], n))


def _check_b_scale(op: str, a_scale: torch.Tensor | None, b_scale: torch.Tensor | None, n: int) -> None:
    if (b_scale is None) != (a_scale is None):
        raise ValueError(f"{op}: codes have an a_scale and a b_scale, floats neither")
    # [1, N] is not taken for one a row: it could be mistaken for scales by block.
    if b_scale is not None and (
        b_scale.dtype != torch.float32 or not (b_scale.numel() == 1 or b_scale.shape == (n,) or b_scale.shape == (n, 1))
    ):
        raise ValueError(
            f"{op}: b_scale must be float32 [{n}, 1] or one element, got {list(b_scale.shape)} of {b_scale.dtype}"
        )


def call_of(given: Arguments) -> Call:
    """What its implementation is chosen by."""
    a, weight = given.a, given.weight
    return Call(NAME, a.device.type, a.dtype, rows_of(a), weight.n, a.shape[-1], layout=weight.layout)


def run(given: Arguments) -> torch.Tensor:
    """On the rows of a."""
    a, weight = given.a, given.weight
    ending = epilogue(given, a, weight.n, given.a_scale, given.b_scale, fast_accumulate=given.fast_accumulate)
    return on_rows(OP.chosen(given), a, weight.n, weight, ending)


def reference(a: torch.Tensor, b: Sparse24Weight, epilogue: Epilogue) -> torch.Tensor:
    """On a [M, K], codes with scales, or floats with scales of 1: the dense matmul; with a weight in any order."""
    weight = dense(b, a.shape[1])
    if a.dtype in CODES:
        return finish(apply_scales(accumulate(a, weight), epilogue), epilogue)
    return finish(a.float() @ weight.float().T, epilogue)


def by_torch(a: torch.Tensor, b: Sparse24Weight, epilogue: Epilogue) -> torch.Tensor:
    """The same of INT8, by torch's own product."""
    return finish(apply_scales(int_mm.product(a, dense(b, a.shape[1])), epilogue), epilogue)


def dense(b: Sparse24Weight, k: int) -> torch.Tensor:
    """The weight [N, k] in any order, its zeros written out."""
    b = weight_orders.plain(b, k)
    return sparse24.decompress(b.values, b.meta, k)


_REFERENCE = (
    Limits(dtypes=(torch.int8,), k_at_most=LARGEST_INT8_K),
    Limits(dtypes=(torch.float8_e4m3fn, *FLOATS)),
)
_PLAIN = (
    Implementation(int_mm.NAME, NAME, (replace(int_mm.ON_CPU, k_at_most=LARGEST_INT8_K),), by_torch),
    Implementation("reference", NAME, _REFERENCE, reference),
)
OP = Op(NAME, SCHEMA, Arguments, check, fake, call_of, run, _PLAIN)
