"""compressed-tensors' `pack-quantized` tensors: several codes in an int32, offset so that none is negative.

4-bit codes are packed by `quant.kernels.layouts.nibbles`, in the order that `ops.int4_mm` reads; 8-bit ones here.
"""

from __future__ import annotations

import torch

from quant.kernels.layouts import nibbles

_OFFSET = 128  # the first bit of every byte flipped


def packed_columns(bits: int, k: int) -> int:
    """int32s in a row of k codes, rounded up."""
    return -(-k * bits // 32)


def pack(codes: torch.Tensor, bits: int) -> torch.Tensor:
    """int8 codes [N, K] of 4 or 8 bits as int32 [N, ceil(K * bits / 32)], the first column in the lowest bits."""
    if bits == 4:
        return nibbles.pack(codes)
    n, k = codes.shape
    stored = torch.nn.functional.pad(codes.view(torch.uint8) ^ _OFFSET, (0, -k % 4))
    return stored.contiguous().view(torch.int32).reshape(n, -1)


def unpack(packed: torch.Tensor, bits: int, k: int) -> torch.Tensor:
    """int8 codes [N, k] of what `pack` returned."""
    if bits == 4:
        return nibbles.unpack(packed, k)
    return (packed.contiguous().view(torch.uint8) ^ _OFFSET).view(torch.int8)[:, :k].contiguous()
