"""Rows of codes that begin at multiples of 16 bytes: what the copies of the CUDA kernels read at once.

A matmul's K is padded with zeros, which add nothing to any sum. Most weights have such rows as they are.
"""

from __future__ import annotations

import torch

NAME = "aligned_rows"
BYTES = 16


def width(k: int) -> int:
    """Bytes of a row that holds `k` codes."""
    return -(-k // BYTES) * BYTES


def pack(codes: torch.Tensor) -> torch.Tensor:
    """Codes [..., K] of one byte each as [..., width(K)], zeros behind; the tensor itself where K fits.

    Raises:
        ValueError: an element is not one byte.
    """
    if codes.itemsize != 1:
        raise ValueError(f"aligned_rows: codes have one byte each, got {codes.dtype}")
    k = codes.shape[-1]
    if k == width(k):
        return codes
    padded = torch.zeros(*codes.shape[:-1], width(k), dtype=torch.uint8, device=codes.device)
    padded[..., :k] = codes.view(torch.uint8)
    return padded.view(codes.dtype)


def unpack(packed: torch.Tensor, k: int) -> torch.Tensor:
    """The codes [..., k] that `pack` was given, contiguous; the tensor itself where nothing was padded.

    Raises:
        ValueError: rows of `k` codes are not padded to this width.
    """
    if packed.shape[-1] != width(k):
        raise ValueError(f"aligned_rows: rows of {k} codes take {width(k)} bytes, got {packed.shape[-1]}")
    return packed if packed.shape[-1] == k else packed[..., :k].contiguous()
