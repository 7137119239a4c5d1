"""Runs CUDA kernels on the CPU and finds what is wrong with them; README.md says how."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from quant.kernels.runtime import wgmma
from quant.kernels.runtime.architectures import architecture
from quant.kernels.runtime.launch import Build, Launch
from quant.kernels.runtime.sources import needed, shipped
from tests.emulator.arguments import filled, start
from tests.emulator.build import CompileError, runtime, shared_object
from tests.emulator.placement import Placement
from tests.emulator.places import with_places
from tests.emulator.ranges import Range, disjoint, ranges

__all__ = ["CompileError", "Counts", "EmulatorError", "Mutation", "Program", "compile_kernel", "mutated"]


class EmulatorError(Exception):
    """A kernel did what it may not do.

    Attributes:
        kind: "race", "out of bounds", "misaligned", "uninitialized", "async in flight", "missing fence", "mbarrier",
            "exited block", "deadlock", "divergence", "read-only", "stack overflow" or "bad argument".
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


@dataclass(frozen=True)
class Counts:
    """What one launch asked of the memory system; runtime/statistics.h defines each."""

    shared_load_phases: int
    shared_load_conflicts: int
    shared_store_phases: int
    shared_store_conflicts: int
    copy_phases: int
    copy_conflicts: int
    ldmatrix_phases: int
    ldmatrix_conflicts: int
    global_bytes_read: int
    global_sectors_read: int
    global_bytes_written: int
    global_sectors_written: int
    mma: int
    stmatrix_phases: int
    stmatrix_conflicts: int
    wgmma: int
    tma_bytes_read: int
    tma_bytes_written: int


class _Counts(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in Counts.__dataclass_fields__)


class _Request(ctypes.Structure):
    _fields_ = (
        ("arguments", ctypes.c_void_p),
        ("argument_bytes", ctypes.c_uint64),
        ("grid", ctypes.c_uint32),
        ("cluster", ctypes.c_uint32),
        ("block_x", ctypes.c_uint32),
        ("block_y", ctypes.c_uint32),
        ("shared_bytes", ctypes.c_uint32),
        ("seed", ctypes.c_uint64),
        ("moves", ctypes.c_uint32),
        ("buffers", ctypes.c_uint32),
        ("writable", ctypes.c_char_p),
        ("ranges", ctypes.POINTER(Range)),
        ("range_count", ctypes.c_uint64),
    )


class _Response(ctypes.Structure):
    _fields_ = (("counts", _Counts), ("kind", ctypes.c_char * 32), ("message", ctypes.c_char * 4000))


_TWINS = ("ptx.cuh", *wgmma.headers())
_MOVES = {"random": 0, "early": 1, "late": 2}


class Program:
    """A kernel compiled for the CPU."""

    def __init__(self, path: Path, files: Iterable[str]) -> None:
        self._path = path
        self._files = frozenset(files)
        self._launch = _library(runtime()).emulator_launch
        self._library = _library(path)

    def run(
        self, launch: Launch, buffers: Sequence[tuple[torch.Tensor, bool]], *, seed: int = 0, copies: str = "random"
    ) -> Counts:
        """Runs all blocks of a launch.

        Args:
            launch: what to run; `launch.build` is not looked at again.
            buffers: every tensor the arguments point into, and whether the kernel may write it. Nothing else exists:
                not the gaps of a strided tensor either.
            seed: decides the order of blocks, warps and lanes.
            copies: when asynchronous work is done (copies of cp.async and TMA, wgmma): "early", "late" (as late as
                legal) or "random", for each piece of it.

        Raises:
            EmulatorError: the first fault; where the tensors are then is undefined.
            ValueError: buffers that are not on the CPU, or a writable one that overlaps another; no field for a map.
        """
        runs = disjoint(
            [run for index, (tensor, _) in enumerate(buffers) for run in ranges(tensor, index)],
            [writable for _, writable in buffers],
        )
        placement = Placement([tensor for tensor, _ in buffers])
        try:
            arguments = filled(launch, placement.moved)
            request = _Request(
                start(arguments),
                ctypes.sizeof(launch.arguments),
                launch.grid,
                launch.cluster,
                *launch.block,
                launch.shared_bytes,
                seed,
                _MOVES[copies],
                len(buffers),
                bytes(writable for _, writable in buffers),
                (Range * len(runs))(*placement.copied_in(runs)),
                len(runs),
            )
            response = _Response()
            kernel = ctypes.c_char.in_dll(self._library, "emulator_kernel")
            self._launch(ctypes.byref(kernel), ctypes.byref(request), ctypes.byref(response))
            if not response.kind:
                placement.copy_out(run for run in runs if buffers[run.buffer][1])
        finally:
            placement.close()
        if response.kind:
            message = response.message.decode(errors="replace")
            raise EmulatorError(response.kind.decode(), with_places(message, self._path, self._files))
        return Counts(**{name: getattr(response.counts, name) for name in Counts.__dataclass_fields__})


def compile_kernel(build: Build, arch: str, *, sources: Mapping[str, str] | None = None) -> Program:
    """Compiles a kernel for the CPU as it is for an architecture.

    Args:
        build: the kernel and its macros.
        arch: "sm_80" and so on; what this architecture lacks is an error of the compiler.
        sources: file name to text; None for those of kernels/cuda. `ptx.cuh` and the headers of wgmma are the host's
            twins, also where there are others in it.

    Raises:
        CompileError: g++ refuses it, or is not there.
    """
    limits = architecture(arch)
    texts = {**(shipped() if sources is None else sources), **dict.fromkeys(_TWINS, "")}
    files = {name: text for name, text in needed(f"{build.kernel}.cu", texts).items() if name not in _TWINS}
    defines = {**dict(build.defines), "ARCH": limits.macro, "SHARED_LIMIT": limits.shared_bytes_per_block}
    return Program(shared_object(build.kernel, files, defines), files)


class Mutation(NamedTuple):
    """A mistake to make in a kernel, that the emulator should find.

    Attributes:
        file: name of the source.
        before: text that occurs once in it.
        after: what it becomes.
        why: what is wrong with that.
    """

    file: str
    before: str
    after: str
    why: str


def mutated(sources: Mapping[str, str], mutation: Mutation) -> dict[str, str]:
    """`sources` with one mistake in them.

    Raises:
        ValueError: the text to replace does not occur exactly once.
    """
    text = sources[mutation.file]
    count = text.count(mutation.before)
    if count != 1:
        raise ValueError(f"{mutation.file} has {count} times, not once: {mutation.before!r}")
    return {**sources, mutation.file: text.replace(mutation.before, mutation.after)}


@cache
def _library(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))
