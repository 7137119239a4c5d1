"""Rows that begin at multiples of 16 bytes: what the copies of the CUDA kernels read at once.

A matmul's K is padded with zeros, which add nothing to any sum. Most weights have such rows as they are.
"""

from __future__ import annotations

import torch

NAME = "aligned_rows"
BYTES = 16


def width(k: int, itemsize: int = 1) -> int:
    """Elements of a row that holds `k` of so many bytes each."""
    whole = BYTES // itemsize
    return -(-k // whole) * whole


def pack(rows: torch.Tensor) -> torch.Tensor:
    """Elements [..., K] of one or two bytes each as [..., width(K)], zeros behind; the tensor itself where K fits.

    Raises:
        ValueError: an element is neither one byte nor two.
    """
    if rows.itemsize not in (1, 2):
        raise ValueError(f"aligned_rows: elements have one or two bytes each, got {rows.dtype}")
    k = rows.shape[-1]
    if k == width(k, rows.itemsize):
        return rows
    bits = torch.uint8 if rows.itemsize == 1 else torch.int16  # not every dtype can be copied into a part of another
    padded = torch.zeros(*rows.shape[:-1], width(k, rows.itemsize), dtype=bits, device=rows.device)
    padded[..., :k] = rows.view(bits)
    return padded.view(rows.dtype)


def unpack(packed: torch.Tensor, k: int) -> torch.Tensor:
    """The elements [..., k] that `pack` was given, contiguous; the tensor itself where nothing was padded.

    Raises:
        ValueError: rows of `k` elements are not padded to this width.
    """
    if packed.shape[-1] != width(k, packed.itemsize):
        raise ValueError(f"aligned_rows: rows of {k} elements take {width(k, packed.itemsize)}, got {packed.shape[-1]}")
    return packed if packed.shape[-1] == k else packed[..., :k].contiguous()
