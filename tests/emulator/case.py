"""Runs the kernels of `cases/`: each has one mistake, and a twin without it."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from quant.kernels.runtime.launch import Build, Launch, TensorMap
from tests.emulator.emulator import Counts, Program, compile_kernel

N = 256  # elements of a case's input and of its output, unless it says otherwise

_FIELDS = (
    ("input", ctypes.c_void_p),
    ("out", ctypes.c_void_p),
    ("n", ctypes.c_int32),
    ("correct", ctypes.c_int32),
    ("what", ctypes.c_int32),
)


class Arguments(ctypes.Structure):
    """As cases/case.cuh has it."""

    _fields_ = _FIELDS


class HopperArguments(ctypes.Structure):
    """The same where ARCH is 900 or more; a TensorMap is aligned to 64 bytes."""

    _fields_ = (
        ("in_map", ctypes.c_uint64 * 16),
        ("out_map", ctypes.c_uint64 * 16),
        *_FIELDS,
        ("unused", ctypes.c_int32 * 9),
    )


class Case(NamedTuple):
    """A kernel of `cases/` and how it is launched.

    Attributes:
        name: of the file and the kernel.
        what: WHAT, where a file holds several mistakes.
        threads: of a block.
        blocks: of the grid.
        n: elements of the input, of the output, and 4-byte words of shared memory.
        cluster: blocks of a cluster; None for an architecture that has none.
    """

    name: str
    what: int = 0
    threads: int = 64
    blocks: int = 1
    n: int = N
    cluster: int | None = None

    def run(self, *, correct: bool, seed: int = 0, copies: str = "random") -> tuple[torch.Tensor, Counts]:
        """The output, which begins as zeros, and what the launch cost. The input is 0, 1, 2, ..."""
        build = Build(self.name, ())
        given = torch.arange(self.n, dtype=torch.int32)
        out = torch.zeros(self.n, dtype=torch.int32)
        values = (given.data_ptr(), out.data_ptr(), self.n, int(correct), self.what)
        if self.cluster is None:
            arch = "sm_80"
            launch = Launch(build, self.blocks, (self.threads, 1), 4 * self.n, Arguments(*values))
        else:
            fields = dict(zip((name for name, _ in _FIELDS), values, strict=True))
            rows = self.n // 32
            maps = (
                ("in_map", TensorMap(given.data_ptr(), rows, 128, 128, rows)),
                ("out_map", TensorMap(out.data_ptr(), rows, 128, 128, rows)),
            )
            shared = 3 * 4 * self.n + 64
            arch = "sm_90a"
            arguments = HopperArguments(**fields)
            launch = Launch(build, self.blocks, (self.threads, 1), shared, arguments, maps, self.cluster)
        counts = _program(build, arch).run(launch, [(given, False), (out, True)], seed=seed, copies=copies)
        return out, counts


@cache
def _program(build: Build, arch: str) -> Program:
    folder = Path(__file__).parent / "cases"
    return compile_kernel(build, arch, sources={path.name: path.read_text() for path in folder.iterdir()})
