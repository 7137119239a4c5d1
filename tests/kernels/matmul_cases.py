"""Operands and epilogues for the matmul kernels, and how far from the reference each format may be.

Used by the emulator's tests and by those on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from quant.kernels.arguments import SCALE_BLOCK, Epilogue
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference

INT8, FP8 = torch.int8, torch.float8_e4m3fn
#: M, N, K: single rows and columns, tails in every direction, a K that is no multiple of 16.
RAGGED = ((1, 1, 1), (1, 64, 128), (5, 123, 77), (33, 40, 300), (130, 136, 256), (200, 72, 144), (129, 257, 96))


def codes(rows: int, k: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Every code of a format that `encode` makes, at random: no -128, no NaN."""
    if dtype == INT8:
        return torch.randint(-127, 128, (rows, k), dtype=INT8, generator=generator)
    magnitude = torch.randint(0, 127, (rows, k), dtype=torch.uint8, generator=generator)
    sign = torch.randint(0, 2, (rows, k), dtype=torch.uint8, generator=generator)
    return (magnitude | sign << 7).view(FP8)


def positive(rows: int, k: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Sums that only grow, of products that are not powers of two: what a short accumulator loses shows most."""
    if dtype == INT8:
        return torch.randint(100, 128, (rows, k), dtype=INT8, generator=generator)
    return (torch.randint(1, 8, (rows, k), dtype=torch.uint8, generator=generator) | 0x38).view(FP8)


def wide(rows: int, k: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Mostly the smallest codes, some of the largest."""
    few = torch.rand(rows, k, generator=generator) < 0.02
    large, small = (127, 1) if dtype == INT8 else (0x7E, 0x01)
    bits = torch.where(few, large, small).to(torch.uint8)
    if dtype == FP8:
        bits |= torch.randint(0, 2, (rows, k), dtype=torch.uint8, generator=generator) << 7
    return bits.view(dtype)


FILLS: dict[str, Callable[[int, int, torch.dtype, torch.Generator], torch.Tensor]] = {
    "every code": codes,
    "positive": positive,
    "wide": wide,
}


def operands(
    m: int, n: int, k: int, dtype: torch.dtype, fill: str = "every code", seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, torch.Generator]:
    """a [m, k], b [n, k], and the generator to go on with."""
    generator = torch.Generator().manual_seed(seed)
    return FILLS[fill](m, k, dtype, generator), FILLS[fill](n, k, dtype, generator), generator


def scales(m: int, n: int, k: int, kind: str, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """a_scale and b_scale of a kind: "tensor", "rows", "blocks" (a by row), "blocks both"."""
    blocks = (-(-n // SCALE_BLOCK), -(-k // SCALE_BLOCK))
    shapes = {
        "tensor": ((1, 1), (1, 1)),
        "rows": ((m, 1), (n, 1)),
        "mixed": ((1, 1), (n, 1)),
        "blocks": ((m, 1), blocks),
        "blocks both": ((m, blocks[1]), blocks),
    }
    a_scale, b_scale = ((torch.rand(shape, generator=generator) + 0.1) * 1e-2 for shape in shapes[kind])
    return a_scale, b_scale


def allowed(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """How far the sums of an FP8 kernel may be from the reference's, [M, N] after scaling; zeros for INT8.

    The tensor core aligns the 33 addends of an instruction (32 products and the sum so far) to the largest and drops
    what is below 2**-13 of it. No addend is larger than the sum of magnitudes so far, so the 4 instructions between two
    promotions lose at most 4 * 33 * 2**-13 of the magnitudes of their 128 of K. The promotions, and the reference's own
    sum, are FP32 sums of at most K terms in some order: K * 2**-24 each.
    """
    if a.dtype == INT8:
        return torch.zeros(a.shape[0], b.shape[0])
    tensor_core = 4 * 33 * 2.0**-13
    fp32 = 2 * a.shape[1] * 2.0**-24
    magnitudes = [x.float().abs().to(a.dtype) for x in (a, b)]
    plain = epilogue._replace(bias=None, activation="none", residual=None, gate=None, out_scale=None)
    total = scaled_mm_reference(magnitudes[0], magnitudes[1], plain._replace(out_dtype=torch.float32))
    return total * (tensor_core + fp32)
