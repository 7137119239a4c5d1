"""The matmuls that a convolution's weight can be of: what `scaled_conv` has to know of each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from quant.kernels.layouts import aligned_rows, nibbles, sparse24
from quant.kernels.numerics import CODES
from quant.kernels.ops.base import Op
from quant.kernels.ops.int4_mm import OP as INT4_MM
from quant.kernels.ops.int4_mm import check as check_int4_mm
from quant.kernels.ops.int4_mm import decoded as int4_decoded
from quant.kernels.ops.int8_mm import OP as INT8_MM
from quant.kernels.ops.int8_mm import check as check_int8_mm
from quant.kernels.ops.scaled_mm import OP as SCALED_MM
from quant.kernels.ops.scaled_mm import check as check_scaled_mm
from quant.kernels.ops.sparse_scaled_mm import OP as SPARSE_SCALED_MM
from quant.kernels.ops.sparse_scaled_mm import check as check_sparse_scaled_mm
from quant.kernels.ops.sparse_scaled_mm import dense as sparse_dense
from quant.kernels.reference import dequantized


class Weight(NamedTuple):
    """The tensors of a weight [N, K], as its matmul takes them; see `scaled_conv`."""

    b: torch.Tensor
    b_scale: torch.Tensor | None
    b_zero: torch.Tensor | None
    b_meta: torch.Tensor | None
    layout: str | None
    n: int | None


class Ending(NamedTuple):
    """What follows the sums of a convolution, as the matmuls have it."""

    bias: torch.Tensor | None
    activation: str
    residual: None
    gate: None
    out_dtype: torch.dtype
    out_scale: None


class Matmul(NamedTuple):
    """An op that multiplies rows by such a weight.

    Attributes:
        op: the op.
        parts: fields of `Weight` that its weight can have, and must where it is `b_scale`.
        check: raises ValueError for the op's arguments that do not fit, in the name of another op.
        arguments: the op's, of rows [M, K], their scales, the weight and the ending.
        matrix: the weight of the op's arguments as float32 [N, K], without the scales that its epilogue applies.
        pads: may the weight's rows have zeros behind, up to whole 16 bytes?
    """

    op: Op[Any]
    parts: tuple[str, ...]
    check: Callable[[Any, str], None]
    arguments: Callable[[torch.Tensor, torch.Tensor | None, Weight, Ending], tuple[Any, ...]]
    matrix: Callable[[Any], torch.Tensor]
    pads: bool = False

    def check_parts(self, op: str, weight: Weight) -> None:
        """Raises ValueError for a weight with parts that this op does not have, or without scales that it needs."""
        for name in ("b_zero", "b_meta", "layout", "n"):
            if getattr(weight, name) is not None and name not in self.parts:
                raise ValueError(f"{op}: a weight {list(weight.b.shape)} of {weight.b.dtype} has no {name}")
        if weight.b_scale is None and "b_scale" in self.parts:
            raise ValueError(f"{op}: a weight {list(weight.b.shape)} of {weight.b.dtype} needs a b_scale")

    def columns(self, weight: Weight, k: int) -> int:
        """Columns of the rows that it multiplies: k, or with the zeros behind, see `layouts.aligned_rows`."""
        wide = aligned_rows.width(k)
        return wide if self.pads and weight.b.ndim == 2 and weight.b.shape[1] == wide else k


def matmul_of(weight: Weight, dtype: torch.dtype) -> Matmul:
    """Which one multiplies an input of this dtype by the weight."""
    if weight.b_meta is not None:
        return SPARSE
    if weight.b.dtype == torch.int32:
        return INT4
    return DENSE if dtype in CODES else INT8


DENSE = Matmul(
    SCALED_MM,
    ("b_scale",),
    check_scaled_mm,
    lambda rows, scales, weight, ending: SCALED_MM.arguments(rows, scales, weight.b, weight.b_scale, *ending),
    lambda given: given.b.float(),
    pads=True,
)
INT8 = Matmul(
    INT8_MM,
    ("b_scale",),
    check_int8_mm,
    lambda rows, scales, weight, ending: INT8_MM.arguments(rows, weight.b, weight.b_scale, *ending),
    lambda given: dequantized(given.b, given.b_scale, None, given.a.dtype),
)
INT4 = Matmul(
    INT4_MM,
    ("b_scale", "b_zero", "layout", "n"),
    check_int4_mm,
    lambda rows, scales, weight, ending: INT4_MM.arguments(
        rows, scales, weight.b, weight.b_scale, weight.b_zero, *ending, weight.layout or nibbles.NAME, weight.n
    ),
    lambda given: int4_decoded(given.weight, given.a.shape[-1], given.a.dtype),
)
SPARSE = Matmul(
    SPARSE_SCALED_MM,
    ("b_meta", "layout", "n"),
    check_sparse_scaled_mm,
    lambda rows, scales, weight, ending: SPARSE_SCALED_MM.arguments(
        rows, scales, weight.b, weight.b_meta, weight.b_scale, *ending, False, weight.layout or sparse24.NAME, weight.n
    ),
    lambda given: sparse_dense(given.weight, given.a.shape[-1]).float(),
)
