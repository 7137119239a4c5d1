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


class Launch(NamedTuple):
    """A build and what it is launched with.

    Attributes:
        build: what to compile.
        grid: number of blocks, in one dimension.
        block: threads in x and y.
        shared_bytes: dynamic shared memory of a block.
        arguments: the kernel's only parameter, passed by value. It holds addresses, so whoever launches keeps the
            tensors alive.
    """

    build: Build
    grid: int
    block: tuple[int, int]
    shared_bytes: int
    arguments: ctypes.Structure
