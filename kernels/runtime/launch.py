"""One launch of a CUDA kernel as plain data: what the host side of an op makes, and what a GPU or an emulator runs."""

from __future__ import annotations

import ctypes
from typing import NamedTuple


class Build(NamedTuple):
    """One compilation of a kernel, for any architecture.

    Attributes:
        kernel: its name: the source is `kernels/cuda/{kernel}.cu`, the entry point has the same name.
        defines: macros and their values, in a fixed order; `ARCH` is added by whoever compiles.
    """

    kernel: str
    defines: tuple[tuple[str, int], ...]


class TensorMap(NamedTuple):
    """A matrix of bytes in global memory that the copy engine of Hopper reads or writes box by box.

    Outside the matrix reads give zeros and writes are dropped.

    Attributes:
        address: of the first row, a multiple of 16.
        rows: of the matrix.
        row_bytes: of a row that belong to the matrix.
        stride: bytes from a row to the next, a multiple of 16.
        box_rows, box_bytes: of a box, at most 256 rows of `swizzle` bytes, or of 256 where there is no swizzle.
        swizzle: bytes of shared memory within which chunks of 16 change places by the number of their 128 bytes, so
            that rows below each other are in different banks: 128, 64, or 0 for none.
    """

    address: int
    rows: int
    row_bytes: int
    stride: int
    box_rows: int
    box_bytes: int = 128
    swizzle: int = 128


class Launch(NamedTuple):
    """A build and what it is launched with.

    Attributes:
        build: what to compile.
        grid: number of blocks, in one dimension.
        block: threads in x and y.
        shared_bytes: dynamic shared memory of a block.
        arguments: the kernel's only parameter, passed by value. It holds addresses, so whoever launches keeps the
            tensors alive.
        maps: fields of `arguments`, 128 bytes each, that whoever launches fills with these maps in its own encoding.
        cluster: blocks that run together; as compiled into the kernel.
    """

    build: Build
    grid: int
    block: tuple[int, int]
    shared_bytes: int
    arguments: ctypes.Structure
    maps: tuple[tuple[str, TensorMap], ...] = ()
    cluster: int = 1
