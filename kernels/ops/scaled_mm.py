"""`scaled_mm`: a matmul of 8-bit codes, whose scales and ending are applied to its sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch

from quant.kernels.arguments import SCALE_BLOCK, Epilogue
from quant.kernels.limits import Call, Implementation, Limits
from quant.kernels.numerics import CODES, LARGEST_INT8_K
from quant.kernels.ops import int_mm
from quant.kernels.ops.base import Op
from quant.kernels.ops.checks import check_ending, check_operands
from quant.kernels.ops.matmul import ENDING, epilogue, on_rows, rows_of
from quant.kernels.reference import accumulate, apply_scales, finish

NAME = "scaled_mm"


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
        activation: one of `ops.checks.ACTIVATIONS`.
        residual, gate: broadcast to the output [..., N].
        out_dtype: float32, bfloat16 or float16; with `out_scale` that of codes.
        out_scale: float32 with one element: the output is quantized by it.
        fast_accumulate: FP8 kernels leave the whole sum to the tensor core, which keeps about 14 bits of it, instead
            of promoting it to float32 every 128 of K. Faster and less exact; other implementations and INT8 ignore it.

    Raises:
        ValueError: a shape, dtype or device that does not fit, or a K whose INT8 sum could overflow INT32.
    """
    given = Arguments(a, a_scale, b, b_scale, bias, activation, residual, gate, out_dtype, out_scale, fast_accumulate)
    out: torch.Tensor = OP(given)
    return out


class Arguments(NamedTuple):
    """As the schema has them."""

    a: torch.Tensor
    a_scale: torch.Tensor
    b: torch.Tensor
    b_scale: torch.Tensor
    bias: torch.Tensor | None
    activation: str
    residual: torch.Tensor | None
    gate: torch.Tensor | None
    out_dtype: torch.dtype
    out_scale: torch.Tensor | None
    fast_accumulate: bool = False


SCHEMA = f"(Tensor a, Tensor a_scale, Tensor b, Tensor b_scale, {ENDING}, bool fast_accumulate=False) -> Tensor"


def fake(given: Arguments) -> torch.Tensor:
    """The result without its numbers."""
    return given.a.new_empty([*given.a.shape[:-1], given.b.shape[0]], dtype=given.out_dtype)


def check(given: Arguments, op: str = NAME) -> None:
    """Raises ValueError for what the op does not take, in the name of the op that was called."""
    a, b = given.a, given.b
    if not 2 <= a.ndim <= 4 or b.ndim != 2:
        raise ValueError(f"{op}: a must be [..., K] of 2 to 4 dimensions and b [N, K], got {_shapes(a, b)}")
    if a.dtype not in CODES or a.dtype != b.dtype:
        raise ValueError(f"{op}: a and b must both be int8 or both float8_e4m3fn, got {a.dtype} and {b.dtype}")
    check_operands(op, a, given._asdict(), codes=("a", "b"))
    n, k = b.shape
    if a.shape[-1] != k:
        raise ValueError(f"{op}: a and b must have the same K, got {_shapes(a, b)}")
    if a.dtype == torch.int8 and k > LARGEST_INT8_K:
        raise ValueError(f"{op}: K = {k} could overflow the INT32 sum; at most {LARGEST_INT8_K}")
    _check_scales(op, given.a_scale, given.b_scale, a.shape[:-1], n, k)
    check_ending(op, given, (*a.shape[:-1], n))


def _shapes(a: torch.Tensor, b: torch.Tensor) -> str:
    return f"{list(a.shape)} and {list(b.shape)}"


def _check_scales(op: str, a_scale: torch.Tensor, b_scale: torch.Tensor, rows: Sequence[int], n: int, k: int) -> None:
    for name, scale in (("a_scale", a_scale), ("b_scale", b_scale)):
        if scale.dtype != torch.float32:
            raise ValueError(f"{op}: {name} must be float32, got {scale.dtype}")
    blocks = Epilogue(a_scale, b_scale).has_block_scales(n, k)
    if b_scale.numel() != 1 and b_scale.numel() != n and not blocks:
        raise ValueError(
            f"{op}: b_scale must have 1 or N = {n} elements, or be [{-(-n // SCALE_BLOCK)}, "
            f"{-(-k // SCALE_BLOCK)}] for blocks of {SCALE_BLOCK}, got {list(b_scale.shape)}"
        )
    if (
        a_scale.numel() != 1
        and a_scale.shape != (*rows, 1)
        and not (blocks and a_scale.shape == (*rows, b_scale.shape[1]))
    ):
        raise ValueError(
            f"{op}: a_scale must be one element or one a row (with a b_scale by block also one a row and block), "
            f"got {list(a_scale.shape)}"
        )


def call_of(given: Arguments) -> Call:
    """What its implementation is chosen by."""
    a, (n, k) = given.a, given.b.shape
    blocks = Epilogue(given.a_scale, given.b_scale).has_block_scales(n, k)
    return Call(NAME, a.device.type, a.dtype, rows_of(a), n, k, block_scales=blocks)


def run(given: Arguments) -> torch.Tensor:
    """On the rows of a."""
    a, b, n = given.a, given.b, given.b.shape[0]
    ending = epilogue(given, a, n, given.a_scale, given.b_scale, fast_accumulate=given.fast_accumulate)
    return on_rows(OP.chosen(given), a, n, b, ending)


def reference(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """On a [M, K] and b [N, K]."""
    if epilogue.has_block_scales(b.shape[0], b.shape[1]):
        return finish(accumulate_blocks(a, b, epilogue), epilogue)
    return finish(apply_scales(accumulate(a, b), epilogue), epilogue)


def accumulate_blocks(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """a @ b.T in float32 [M, N] with scales by block: each stretch of K is summed, scaled, and added in order."""
    total = torch.zeros(a.shape[0], b.shape[0], device=a.device)
    a_scales = epilogue.a_scale
    by_block = a_scales.shape[1] > 1
    for block, (part_a, part_b) in enumerate(
        zip(torch.split(a, SCALE_BLOCK, 1), torch.split(b, SCALE_BLOCK, 1), strict=True)
    ):
        scales = epilogue.b_scale[:, block].repeat_interleave(SCALE_BLOCK)[: b.shape[0]]
        if by_block:
            scales = a_scales[:, block : block + 1] * scales
        total = total + accumulate(part_a, part_b) * scales
    return total if by_block else total * a_scales


def by_torch(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """The same of INT8, by torch's own product."""
    return finish(apply_scales(int_mm.product(a, b), epilogue), epilogue)


_ON_CPU = replace(int_mm.ON_CPU, k_at_most=LARGEST_INT8_K, block_scales=False)
#: What torch asks of cuBLAS there.
_ON_CUDA = replace(_ON_CPU, devices=("cuda",), k_at_least=0, m_at_least=17, n_multiple=8, k_multiple=8)
_REFERENCE = (Limits(dtypes=(torch.int8,), k_at_most=LARGEST_INT8_K), Limits(dtypes=(torch.float8_e4m3fn,)))
_PLAIN = (
    Implementation(int_mm.NAME, NAME, (_ON_CPU, _ON_CUDA), by_torch),
    Implementation("reference", NAME, _REFERENCE, reference),
)
OP = Op(NAME, SCHEMA, Arguments, check, fake, call_of, run, _PLAIN)
