"""What the layouts of 2:4 weights for tensor cores share: whole words of metadata, legal also behind the weight.

A group's four bits name two different columns. Groups that only fill up a word name columns 0 and 1, which are 0.
"""

from __future__ import annotations

import torch

from quant.kernels.layouts import fragments, sparse24

#: Two groups that name columns 0 and 1.
EMPTY = 0x44


def check(layout: str, values: torch.Tensor, meta: torch.Tensor) -> tuple[int, int]:
    """N and K of what `sparse24.compress` made.

    Raises:
        ValueError: shapes or dtypes that do not belong together, or elements of more than two bytes.
    """
    fits = values.ndim == 2 and values.itemsize <= 2 and values.shape[1] % 2 == 0
    k = 2 * values.shape[-1] if values.ndim else 0
    if not fits or meta.dtype != torch.uint8 or meta.shape != (values.shape[0], sparse24.meta_width(k)):
        raise ValueError(
            f"{layout}: values are [N, K/2] with elements of one or two bytes and K a multiple of 4, metadata uint8 "
            f"[N, ceil(K/8)], got {values.dtype} {list(values.shape)} and {meta.dtype} {list(meta.shape)}"
        )
    return values.shape[0], k


def check_packed(
    layout: str,
    values: torch.Tensor,
    meta: torch.Tensor,
    n: int,
    k: int,
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    """Raises ValueError for values and metadata that are not of a weight [n, k], whose shapes are these."""
    fits = k % sparse24.GROUP == 0 and values.itemsize <= 2 and meta.dtype == torch.int32
    if not fits or (values.shape, meta.shape) != shapes:
        raise ValueError(
            f"{layout}: a weight [{n}, {k}] has values of one or two bytes {list(shapes[0])} and metadata int32 "
            f"{list(shapes[1])} with K a multiple of 4, got {values.dtype} {list(values.shape)} and {meta.dtype} "
            f"{list(meta.shape)}"
        )


def padded(meta: torch.Tensor, k: int, rows: int, width: int) -> torch.Tensor:
    """Metadata uint8 [N, ceil(k/8)] as [rows, width], filled up with groups that name columns 0 and 1."""
    out = fragments.padded(meta, rows, width, EMPTY, copy=k % 8 > 0)
    if k % 8:  # the last byte has one group; what is above it is 0, which names one column twice
        out[: meta.shape[0], k // 8] |= EMPTY & 0xF0
    return out


def cut(meta: torch.Tensor, n: int, k: int) -> torch.Tensor:
    """The metadata uint8 [n, ceil(k/8)] that `padded` was given."""
    found = meta[:n, : sparse24.meta_width(k)].contiguous()
    if k % 8:
        found[:, -1] &= 0x0F
    return found
