"""Reads a file from its first byte to its last, once: to hash it, and to look at its tensors some rows at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from quant.checkpoint.digests import METADATA, read_header
from quant.checkpoint.shards import DTYPES
from quant.errors import CheckpointError
from quant.files.regular_files import open_regular

#: Bytes that are in memory at once, unless one row of a tensor alone is more.
PIECE = 2**23


@dataclass(frozen=True)
class Piece:
    """Neighbouring bytes of a file.

    Attributes:
        data: valid until the next piece is asked for.
        name: of the tensor that they are of; empty for other bytes.
        rows: the same bytes as rows of that tensor, along its first dimension; None for other bytes.
        first: number of the first of these rows.
    """

    data: memoryview
    name: str = ""
    rows: torch.Tensor | None = None
    first: int = 0


@dataclass(frozen=True)
class _Place:
    """Where a tensor is in its file, in bytes, and how many of them a row has."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def row_count(self) -> int:
        return self.shape[0] if self.shape else 1


def pieces(path: Path, *, tensors: bool) -> Iterator[Piece]:
    """All bytes of a file, in order.

    Args:
        path: a regular file.
        tensors: it is a safetensors file whose header is sound; its tensors come as rows. Those without elements, and
            those of types that torch has not, come as other bytes.

    Raises:
        OSError: it cannot be read.
        CheckpointError: it became shorter while it was read.
    """
    places = _places(path) if tensors else []
    with open_regular(path) as file:
        left, buffer = os.fstat(file.fileno()).st_size, bytearray()

        def read(size: int) -> memoryview:
            nonlocal left, buffer
            if len(buffer) < size:
                buffer = bytearray(size)
            data, got = memoryview(buffer)[:size], 0
            while got < size:
                more = file.readinto(data[got:])
                if not more:
                    raise CheckpointError(f"{path}: became shorter while it was read")
                got += more
            left -= size
            return data

        size = left
        for place in places:
            while (gap := place.begin - (size - left)) > 0:
                yield Piece(read(min(gap, PIECE)))
            if gap < 0:
                raise CheckpointError(f"{path}: damaged: tensor '{place.name}' begins within another")
            step = max(1, PIECE // place.row_bytes)
            for first in range(0, place.row_count, step):
                count = min(step, place.row_count - first)
                data = read(count * place.row_bytes)
                shape = (count, *place.shape[1:]) if place.shape else ()
                yield Piece(data, place.name, torch.frombuffer(data, dtype=place.dtype).reshape(shape), first)
        while left > 0:
            yield Piece(read(min(left, PIECE)))


def _places(path: Path) -> list[_Place]:
    """The tensors of a file that come as rows, in the order of its bytes."""
    header, begin = read_header(path)
    found = [
        _Place(name, DTYPES[entry["dtype"]], tuple(entry["shape"]), begin + entry["data_offsets"][0])
        for name, entry in header.items()
        if name != METADATA and entry["dtype"] in DTYPES and 0 not in entry["shape"]
    ]
    return sorted(found, key=lambda place: place.begin)
