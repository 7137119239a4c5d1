"""2:4 weights in the order of `wgmma.sp`: kept values in rows that a tensor map can copy, metadata in that of threads.

A step is 128 bytes of a row of the dense operand: 128 columns of 8-bit values, 64 of 16-bit ones; two instructions.
Thread T of a warpgroup, with w = T / 32, l = T % 32 and g = l / 4, has two words of a step of 64 rows:

    8 bits:  word i has the 8 groups of columns 32(2i + (l >> 1 & 1)) and following, of row 16w + g + 8(l & 1)
    16 bits: word i has the 4 groups of columns 16(2i + (l & 1)) and following, of row 16w + g, and above them those of
             row 16w + g + 8; only lanes with l & 2 = 0 are read, the others have the same

The source of the order is PTX ISA's description of `wgmma.mma_async.sp`, whose selector is always 0 here.
"""

from __future__ import annotations

import torch

from quant.kernels.layouts import aligned_rows, fragments, sparse24, sparse24_words
from quant.kernels.layouts.fragments import BLOCK

NAME = "wgmma_sparse24"
#: Rows of the left operand of an instruction, and how many such blocks are padded up to.
ROWS, BLOCKS_MULTIPLE = 64, 4
THREADS, WORDS = 128, 2
#: Bytes of a row of the dense operand in a step.
STEP_BYTES = 128


def steps_of(k: int, itemsize: int) -> int:
    """Steps of `k` columns."""
    return -(-k * itemsize // STEP_BYTES)


def blocks_of(n: int) -> int:
    """Blocks of 64 rows of `n`, a multiple of 4."""
    return -(-n // (ROWS * BLOCKS_MULTIPLE)) * BLOCKS_MULTIPLE


def values_width(k: int, itemsize: int) -> int:
    """Elements of a row of kept values, padded to whole 16 bytes."""
    return aligned_rows.width(k // 2 * itemsize) // itemsize


def shapes(n: int, k: int, itemsize: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of values with elements of `itemsize` bytes, and of metadata, of a weight [n, k]."""
    return (n, values_width(k, itemsize)), (steps_of(k, itemsize), blocks_of(n), THREADS, WORDS)


def pack(values: torch.Tensor, meta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What `sparse24.compress` makes, in the order that the instruction reads.

    Args:
        values: [N, K/2], elements of one or two bytes.
        meta: uint8 [N, ceil(K/8)].

    Returns:
        values [N, K/2], rows padded with zeros to whole 16 bytes, the tensor itself where it fits; metadata int32
        [steps, blocks, 128, 2], which names columns 0 and 1 behind the last row and column.

    Raises:
        ValueError: shapes or dtypes that do not belong together, or elements of more than two bytes.
    """
    n, k = sparse24_words.check(NAME, values, meta)
    if not values.numel():
        of_values, of_meta = shapes(n, k, values.itemsize)
        return values.new_empty(of_values), meta.new_empty(of_meta, dtype=torch.int32)
    steps, blocks, size = steps_of(k, values.itemsize), blocks_of(n), values.itemsize
    kept = aligned_rows.pack(values.contiguous().view(torch.uint8)).view(values.dtype)
    small = blocks * ROWS // BLOCK
    bytes_ = sparse24_words.padded(meta, k, blocks * ROWS, steps * 16 // size)
    if size == 1:
        # A thread's two words are two apart: next to each other, they move as one.
        pairs = bytes_.view(torch.int32).view(blocks * ROWS, steps, 2, 2).mT.contiguous().view(torch.int64)
        found = fragments.to_lanes(pairs.view(small, 2, 8, steps, 1, 2)).view(torch.int32)
    else:
        halves = bytes_.view(torch.int16).view(small, 2, 8, steps, 2, 2)
        lanes = fragments.to_lanes(halves).view(torch.int32).view(steps, small, 8, 1, 2, 2)
        found = lanes.expand(-1, -1, -1, 2, -1, -1).contiguous()
    return kept, found.view(steps, blocks, THREADS, WORDS)


def unpack(values: torch.Tensor, meta: torch.Tensor, n: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The values [n, k/2] and metadata uint8 [n, ceil(k/8)] that `pack` was given.

    Raises:
        ValueError: shapes or dtypes that do not belong to a weight [n, k].
    """
    size = values.itemsize
    steps, blocks = steps_of(k, size), blocks_of(n)
    sparse24_words.check_packed(NAME, values, meta, n, k, shapes(n, k, size))
    if not values.numel():
        return values.new_empty(n, k // 2), meta.new_empty(n, sparse24.meta_width(k), dtype=torch.uint8)
    kept = aligned_rows.unpack(values.contiguous().view(torch.uint8), k // 2 * size).view(values.dtype)
    small = blocks * ROWS // BLOCK
    if size == 1:
        pairs = fragments.from_lanes(fragments.whole(meta).view(torch.int64).view(steps, small, 8, 2, 1, 2))
        words = pairs.view(torch.int32).view(blocks * ROWS, steps, 2, 2).mT.contiguous()
        bytes_ = words.view(blocks * ROWS, steps * 4).view(torch.uint8)
    else:
        once = meta.view(steps, small, 8, 2, 2, 2)[:, :, :, 0].contiguous()
        halves = fragments.from_lanes(once.view(torch.int16).view(steps, small, 8, 2, 2, 2))
        bytes_ = halves.view(blocks * ROWS, steps * 4).view(torch.uint8)
    return kept, sparse24_words.cut(bytes_, n, k)
