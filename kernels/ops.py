"""The ops that a quantized layer calls, checked; `registration` is what torch sees of them.

Each has one definition (`reference`), a fake implementation so that `torch.compile(fullgraph=True)` and meta tensors
work, and implementations that `dispatch` picks from when it runs. None has a gradient, since codes are rounded:
backward through one is an error. A quantized layer has one, see `quant.modules.straight_through`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.kernels import registration as registration  # imported for what it does: it registers the ops
from quant.kernels.arguments import Ending, Epilogue, Prologue
from quant.kernels.checks import check_quantize_rows, check_scaled_mm
from quant.kernels.layouts import nibbles, sparse24
from quant.kernels.no_gradient import without_gradient
from quant.kernels.weight_checks import check_int4_mm, check_int8_mm, check_sparse_scaled_mm


class Norm(NamedTuple):
    """A norm applied before quantization.

    Attributes:
        kind: "layer" or "rms".
        weight, bias: [K] or None.
        eps: added to the variance.
    """

    kind: str
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None
    eps: float = 1e-6


def quantize_rows(
    x: torch.Tensor,
    dtype: torch.dtype,
    *,
    scale: torch.Tensor | None = None,
    pre_quant_scale: torch.Tensor | None = None,
    norm: Norm | None = None,
    modulation: tuple[torch.Tensor, torch.Tensor] | None = None,
    group: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as 8-bit codes: q * scale is about x.

    Args:
        x: [..., K], 2 to 4 dimensions, float32, bfloat16 or float16, any strides.
        dtype: of the codes, int8 or float8_e4m3fn.
        scale: float32 with one element: static, the same for all rows. None finds one a row.
        pre_quant_scale: float32 [K]; x is multiplied by it.
        norm: applied to x first.
        modulation: (scale, shift), each broadcasting to x; the normed x becomes x * (1 + scale) + shift.
        group: find one scale for each so many columns of a row, the last of which may be fewer; 0 finds one a row.

    Returns:
        q like x, and its scale: float32 [..., 1], [..., K/group] rounded up, or [1, 1] where static.

    Raises:
        ValueError: a shape, dtype or device that does not fit.
    """
    kind, weight, bias, eps = norm or ("none", None, None, 0.0)
    by, shift = modulation or (None, None)
    prologue = Prologue(pre_quant_scale, kind, weight, bias, eps, by, shift)
    check_quantize_rows(x, dtype, scale, prologue, group)
    found: tuple[torch.Tensor, torch.Tensor] = without_gradient(
        torch.ops.quant.quantize_rows, x, dtype, scale, *prologue, group
    )
    return found


def scaled_mm(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    activation: str = "none",
    residual: torch.Tensor | None = None,
    gate: torch.Tensor | None = None,
    out_dtype: torch.dtype,
    out_scale: torch.Tensor | None = None,
    fast_accumulate: bool = False,
) -> torch.Tensor:
    """out = (a @ b.T) * a_scale * b_scale, then bias, activation, residual + gate * out, and the last rounding.

    Args:
        a: codes [..., K], 2 to 4 dimensions, int8 or float8_e4m3fn.
        a_scale: float32, one a row, [..., 1], or one element for all; with a b_scale by block also one a row and block
            of K, [..., K/128].
        b: codes [N, K], of a's dtype.
        b_scale: float32 [N, 1], or one element, or one for each block of 128 x 128, [N/128, K/128], rounded up. Blocks
            are summed in float32, in order of K.
        bias: [N].
        activation: one of `checks.ACTIVATIONS`.
        residual, gate: broadcast to the output [..., N].
        out_dtype: float32, bfloat16 or float16; with `out_scale` that of codes.
        out_scale: float32 with one element: the output is quantized by it.
        fast_accumulate: FP8 kernels leave the whole sum to the tensor core, which keeps about 14 bits of it, instead
            of promoting it to float32 every 128 of K. Faster and less exact; other implementations and INT8 ignore it.

    Raises:
        ValueError: a shape, dtype or device that does not fit, or a K whose INT8 sum could overflow INT32.
    """
    epilogue = Epilogue(a_scale, b_scale, bias, activation, residual, gate, out_dtype, out_scale, fast_accumulate)
    check_scaled_mm(a, b, epilogue)
    out: torch.Tensor = without_gradient(torch.ops.quant.scaled_mm, a, a_scale, b, b_scale, *epilogue[2:])
    return out


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
    ending = Ending(bias, activation, residual, gate, out_dtype, out_scale)
    check_int4_mm(a, a_scale, b_packed, b_scale, b_zero, ending, layout, n)
    out: torch.Tensor = without_gradient(
        torch.ops.quant.int4_mm, a, a_scale, b_packed, b_scale, b_zero, *ending, layout, n
    )
    return out


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
    ending = Ending(bias, activation, residual, gate, out_dtype, out_scale)
    check_int8_mm(a, b, b_scale, ending)
    out: torch.Tensor = without_gradient(torch.ops.quant.int8_mm, a, b, b_scale, *ending)
    return out


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
    ending = Ending(bias, activation, residual, gate, out_dtype, out_scale)
    check_sparse_scaled_mm(a, a_scale, b_values, b_meta, b_scale, ending, layout, n)
    out: torch.Tensor = without_gradient(
        torch.ops.quant.sparse_scaled_mm, a, a_scale, b_values, b_meta, b_scale, *ending, fast_accumulate, layout, n
    )
    return out
