"""Rows in the order in which the lanes of a warp hold the left operand of a matrix instruction: what the layouts of
packed and of sparse weights share.

A weight is cut into blocks of 16 rows and slabs of 64 columns. Lane l = 4g + t of a warp holds rows g and g + 8 of a
block, so a lane's data of one slab lies together, a block's lanes follow each other, and a warp reads them in one go.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

BLOCK = 16
SLAB = 64
LANES = 32
#: Bytes of rows put into order in one go by a CPU: few enough that they and what is made of them stay in its cache.
CHUNK = 3 * 2**18
#: 16 bytes as one element. Nothing is computed of them, so that they are no numbers does no harm.
QUAD = torch.complex128


def slabs_of(k: int) -> int:
    """Slabs of `k` columns."""
    return -(-k // SLAB)


def blocks_of(n: int) -> int:
    """Blocks of `n` rows."""
    return -(-n // BLOCK)


def whole(x: torch.Tensor) -> torch.Tensor:
    """Contiguous, and at an address that a view as wider elements may begin at; x itself where it is so."""
    x = x.contiguous()
    return x if x.storage_offset() * x.itemsize % QUAD.itemsize == 0 else x.clone()


def padded(x: torch.Tensor, rows: int, width: int, fill: int, *, copy: bool = False) -> torch.Tensor:
    """An integer matrix as a contiguous one [rows, width], with `fill` where it has nothing.

    Its address is also that of a view as wider integers. Where it fits it may be x itself, but for `copy`.
    """
    if x.shape == (rows, width) and not copy:
        return whole(x)
    out = x.new_full((rows, width), fill)
    out[: x.shape[0], : x.shape[1]] = x
    return out


def chunks(blocks: int, block_bytes: int, device: torch.device) -> Iterator[slice]:
    """The blocks, each of so many bytes, in stretches of about `CHUNK` bytes; on a GPU all in one."""
    step = max(1, CHUNK // max(1, block_bytes)) if device.type == "cpu" else max(1, blocks)
    for start in range(0, blocks, step):
        yield slice(start, min(start + step, blocks))


def to_lanes(rows: torch.Tensor) -> torch.Tensor:
    """[blocks, R, 8, slabs, P, T] as [slabs, blocks, 8, T, P, R], 16 bytes or a multiple of it for each [T, P, R].

    Args:
        rows: contiguous. R: the rows g, or g and g + 8, of a lane; P and T: its part of the slab, and the lane of it.
    """
    blocks, r, g, slabs, p, t = rows.shape
    lanes = rows.new_empty(slabs, blocks, g, t, p, r)
    for here in chunks(blocks, _block_bytes(rows), rows.device):
        put(lanes[:, here], gathered(rows[here]))
    return lanes


def from_lanes(lanes: torch.Tensor) -> torch.Tensor:
    """The rows that `to_lanes` was given."""
    slabs, blocks, g, t, p, r = lanes.shape
    rows = lanes.new_empty(blocks, r, g, slabs, p, t)
    for here in chunks(blocks, _block_bytes(rows), rows.device):
        scattered(taken(lanes[:, here]), rows[here])
    return rows


def gathered(rows: torch.Tensor) -> torch.Tensor:
    """[blocks, R, 8, slabs, P, T] as [blocks, 8, slabs, T, P, R]: what a lane holds of a slab lies together."""
    blocks, r, g, slabs, p, t = rows.shape
    # One copy for each small index, for the long ones are what a copy is quick at.
    small = [row for part in rows.unbind(4) for row in part.unbind(1)]
    return torch.stack(small, -1).view(blocks, g, slabs, t, p, r)


def scattered(found: torch.Tensor, rows: torch.Tensor) -> None:
    """Fills the rows that `gathered` was given."""
    for part, parts in zip(rows.unbind(4), found.unbind(4), strict=True):
        for row, one in zip(part.unbind(1), parts.unbind(-1), strict=True):
            row.copy_(one)


def put(lanes: torch.Tensor, found: torch.Tensor) -> None:
    """Copies a contiguous [blocks, 8, slabs, ...] into [slabs, blocks, 8, ...], 16 bytes at a time."""
    _quads(lanes, 3).copy_(_quads(found, 3).movedim(2, 0))


def taken(lanes: torch.Tensor) -> torch.Tensor:
    """The contiguous [blocks, 8, slabs, ...] that `put` was given."""
    slabs, blocks, g, *rest = lanes.shape
    found = lanes.new_empty(blocks, g, slabs, *rest)
    _quads(found, 3).copy_(_quads(lanes, 3).movedim(0, 2))
    return found


def _quads(x: torch.Tensor, ahead: int) -> torch.Tensor:
    """A view of 16 bytes an element behind the first dimensions, for the others lie together."""
    return x.flatten(ahead).view(QUAD)


def _block_bytes(rows: torch.Tensor) -> int:
    return rows[:1].numel() * rows.itemsize
