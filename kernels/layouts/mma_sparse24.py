"""2:4 weights in the order of `mma.sp`: each lane's kept values and metadata of a slab lie together.

With l = 4g + t and r the register of the instruction's left operand, row means a block's, column a slab's (of its 32
kept values):

    values, 8 bits:   element 4r + b of lane l is row g + 8(r & 1), column 4t + b + 16(r >> 1)
    values, 16 bits:  element 8s + 2r + b is row g + 8(r & 1), column 16s + 2t + b + 8(r >> 1), of k32 step s
    metadata, 8 bits: lane l has the 8 groups of word (l >> 1) & 1, 32 columns of the weight, of row g + 8(l & 1)
    metadata, 16 bits: lane l has 4 groups, those of 16 columns from 16t on, of row g, and above them of row g + 8

The source of the order is PTX ISA's description of the instructions with `.sp`, and CUTLASS's `reorder_meta`.
"""

from __future__ import annotations

import torch

from quant.kernels.layouts import fragments, sparse24, sparse24_words
from quant.kernels.layouts.fragments import BLOCK, LANES, blocks_of, slabs_of

NAME = "mma_sparse24"
#: Kept values that a lane holds of a slab.
VALUES = 16
#: What of the metadata moves as one, by bytes of a value: that of 32 columns, or of 16.
_META = {1: torch.int32, 2: torch.int16}


def shapes(n: int, k: int, itemsize: int = 1) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of values and metadata of a weight [n, k], whatever bytes an element has."""
    lanes = (slabs_of(k), blocks_of(n), LANES)
    return (*lanes, VALUES), lanes


def pack(values: torch.Tensor, meta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `sparse24.compress` makes, in the order of the lanes.

    Args:
        values: [N, K/2], elements of one or two bytes.
        meta: uint8 [N, ceil(K/8)].

    Returns:
        values [slabs, blocks, 32, 16] of the same dtype, zeros behind the last row and column; metadata int32
        [slabs, blocks, 32], which names columns 0 and 1 there.

    Raises:
        ValueError: shapes or dtypes that do not belong together, or elements of more than two bytes.
    """
    n, k = sparse24_words.check(NAME, values, meta)
    if not values.numel():
        of_values, of_meta = shapes(n, k, values.itemsize)
        return values.new_empty(of_values), meta.new_empty(of_meta, dtype=torch.int32)
    blocks, slabs = blocks_of(n), slabs_of(k)
    size = values.itemsize
    rows = fragments.padded(_integers(values), blocks * BLOCK, slabs * 32, 0).view(torch.int32)
    found = fragments.to_lanes(rows.view(blocks, 2, 8, slabs, 2 * size, 4))
    words = sparse24_words.padded(meta, k, blocks * BLOCK, slabs * 8).view(_META[size])
    places = fragments.to_lanes(words.view(blocks, 2, 8, slabs, 1, 8 // words.itemsize))
    return (
        found.view(slabs, blocks, LANES, 4 * size).view(values.dtype),
        places.view(torch.int32).view(slabs, blocks, LANES),
    )


def unpack(values: torch.Tensor, meta: torch.Tensor, n: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The values [n, k/2] and metadata uint8 [n, ceil(k/8)] that `pack` was given.

    Raises:
        ValueError: shapes or dtypes that do not belong to a weight [n, k].
    """
    blocks, slabs, size = blocks_of(n), slabs_of(k), values.itemsize
    sparse24_words.check_packed(NAME, values, meta, n, k, shapes(n, k, size))
    if not values.numel():
        return values.new_empty(n, k // 2), meta.new_empty(n, sparse24.meta_width(k), dtype=torch.uint8)
    found = fragments.whole(values).view(torch.int32).view(slabs, blocks, 8, 4, 2 * size, 2)
    rows = fragments.from_lanes(found).view(blocks * BLOCK, slabs * 8 * size).view(values.dtype)
    words = fragments.whole(meta).view(_META[size])
    places = words.view(slabs, blocks, 8, 8 // words.itemsize, 1, 2)
    stored = fragments.from_lanes(places).view(blocks * BLOCK, slabs * 8 // words.itemsize).view(torch.uint8)
    return rows[:n, : k // 2].contiguous(), sparse24_words.cut(stored, n, k)


def _integers(values: torch.Tensor) -> torch.Tensor:
    return values.view(torch.uint8 if values.itemsize == 1 else torch.int16)
