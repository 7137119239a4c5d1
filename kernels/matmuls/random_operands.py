"""Random operands to measure matmuls with: any numbers, in the order that a kernel reads."""

from __future__ import annotations

import torch

from quant.kernels.arguments import Int4Weight, Sparse24Weight
from quant.kernels.layouts import fragments, sparse24
from quant.kernels.weight_orders import packed

#: Columns that share a scale of a 4-bit weight.
GROUP = 128


def values(rows: int, k: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Codes or floats [rows, k]: any but e4m3's NaN, whose bits are -1: one of them in a row would leave nothing but
    NaN to add up.
    """
    if dtype.itemsize > 1:
        return torch.randn(rows, k, device=device).to(dtype)
    codes = torch.randint(-100, 101, (rows, k), dtype=torch.int8, device=device)
    return codes if dtype == torch.int8 else codes.masked_fill_(codes == -1, 0).view(dtype)


def sparse(n: int, k: int, dtype: torch.dtype, layout: str, device: torch.device) -> Sparse24Weight:
    """A weight [n, k] that keeps of every four columns the first and the last: any two take the same time."""
    meta = torch.full((n, sparse24.meta_width(k)), 0xCC, dtype=torch.uint8, device=device)
    return packed(Sparse24Weight(values(n, k // 2, dtype, device), meta, n), layout, k)


def int4(n: int, k: int, layout: str, device: torch.device) -> Int4Weight:
    """A weight [n, k] of 4-bit codes, which any bits are."""
    slabs, blocks = fragments.slabs_of(k), fragments.blocks_of(n)
    words = torch.randint(-(2**31), 2**31, (slabs, blocks, 32, 4), dtype=torch.int32, device=device)
    groups = k // GROUP if k % GROUP == 0 else 1
    scale = torch.rand(groups, blocks * fragments.BLOCK, device=device).to(torch.bfloat16)
    return Int4Weight(words, scale, None, n, layout)
