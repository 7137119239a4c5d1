"""The other weights of a layer, 2:4 sparse and of four bits: as checkpoints have them, and what they take."""

from __future__ import annotations

import math

import torch

from quant.formats.grid import grid_of, scale_dtype
from quant.formats.scheme import SCHEMES
from quant.kernels import reference
from quant.kernels.arguments import Int4Weight
from quant.kernels.layouts import int4_fragments, nibbles

_FOUR_BITS = SCHEMES["W4A16"].weights
assert _FOUR_BITS is not None and _FOUR_BITS.group_size is not None
#: Columns that share a scale of a 4-bit weight.
GROUP = _FOUR_BITS.group_size


def pruned(weight: torch.Tensor) -> torch.Tensor:
    """A weight [N, K] with the two smallest of every four columns zero; K is a multiple of 4."""
    fours = weight.reshape(-1, 4)
    kept = fours.abs().topk(2, dim=1).indices
    return torch.zeros_like(fours).scatter_(1, kept, fours.gather(1, kept)).view_as(weight)


def four_bits(weight: torch.Tensor) -> Int4Weight:
    """A float weight [N, K] as a checkpoint of the scheme W4A16 has it, in the plain order.

    Raises:
        ValueError: K is no multiple of `GROUP`.
    """
    assert _FOUR_BITS is not None
    grid = grid_of(weight, _FOUR_BITS)
    packed = nibbles.pack(grid.codes(weight))
    return Int4Weight(packed, grid.scale.to(scale_dtype(_FOUR_BITS)), None, len(weight))


def dequantized(weight: Int4Weight, k: int) -> torch.Tensor:
    """The bf16 [N, k] that a plain 4-bit weight means to a bf16 input."""
    codes = nibbles.unpack(weight.packed, k)
    return reference.dequantized(codes, weight.scale, weight.zero, torch.bfloat16).to(torch.bfloat16)


def bytes_of(x: str, weight: str, n: int, k: int) -> int:
    """The fewest bytes of a weight [n, k] with its scales and metadata, nothing padded.

    Args:
        x: of the input, as `Format.x`.
        weight: as `Format.weight`.
        n, k: sizes.
    """
    if weight == "int4":
        return n * k // 2 + 2 * n * (k // GROUP)
    itemsize = 2 if x == "bf16" else 1
    scales = 0 if x == "bf16" else 4 * n
    # Four bits for every four columns of a sparse weight.
    return (n * k * itemsize if weight == "dense" else n * k // 2 * itemsize + n * k // 8) + scales


def four_bits_of_bf16(n: int, k: int) -> float:
    """What a 4-bit weight takes in the order of its kernels, padding and scales too, as a part of the same in bf16."""
    codes = 4 * math.prod(int4_fragments.shape(n, k))
    scales = 2 * (k // GROUP) * int4_fragments.groups_width(n)
    return (codes + scales) / (2 * n * k)
