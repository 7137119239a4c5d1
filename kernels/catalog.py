"""The CUDA kernels of this project and what their machine code must be; checked by compiling them, without a GPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import torch

from quant.kernels.host import mma_gemm
from quant.kernels.host import quantize_rows as rows_host
from quant.kernels.runtime.architectures import architecture
from quant.kernels.runtime.launch import Build
from quant.kernels.tiles import Tile, candidates


@dataclass(frozen=True)
class Kernel:
    """One source file in `kernels/cuda`.

    Attributes:
        name: of the file, of its entry point and of its implementation in `dispatch`.
        summary: what it does, in a line.
        instructions: for each architecture it is launched on, beginnings of SASS opcodes that every build must have.
        forbidden: beginnings of opcodes that none may have.
        builds: architecture to the builds that stand for all.
        threads: of a block of a build.
        shared_bytes: dynamic shared memory of a block of a build.
        max_registers: of a thread of a build: what its occupancy was planned with.
    """

    name: str
    summary: str
    instructions: Mapping[str, tuple[str, ...]]
    forbidden: tuple[str, ...]
    builds: Callable[[str], tuple[Build, ...]]
    threads: Callable[[Build], int]
    shared_bytes: Callable[[Build], int]
    max_registers: Callable[[Build], int]

    @property
    def architectures(self) -> tuple[str, ...]:
        """Those it is launched on."""
        return tuple(self.instructions)


def _tile(build: Build) -> Tile:
    sizes = dict(build.defines)
    return Tile(*(sizes[name] for name in ("TILE_M", "TILE_N", "TILE_K", "WARP_M", "WARP_N", "STAGES")))


def _gemm_builds(kernel: str, arch: str) -> tuple[Build, ...]:
    """Every tile with the plainest epilogue, and one tile with every other way to end."""
    fp8 = kernel == mma_gemm.FP8
    codes = torch.float8_e4m3fn if fp8 else torch.int8
    tiles = candidates(architecture(arch), promoted=fp8)
    builds = [mma_gemm.build(kernel, tile, torch.bfloat16, "none", block_scales=False) for tile in tiles]
    smallest, blocks = (
        candidates(architecture(arch), promoted=True)[-1],
        candidates(architecture(arch), promoted=True)[0],
    )
    for activation, out in (("gelu", torch.float16), ("gelu_tanh", codes), ("silu", torch.float32)):
        builds.append(mma_gemm.build(kernel, smallest, out, activation, block_scales=False))
    builds.append(mma_gemm.build(kernel, blocks, torch.bfloat16, "none", block_scales=True))
    return tuple(builds)


def _gemm_registers(build: Build) -> int:
    """512 threads on a multiprocessor where sums leave room for them, else one block; `RESIDENT` of mma_gemm.cuh."""
    sizes = dict(build.defines)
    kept_twice = build.kernel == mma_gemm.FP8 or sizes["BLOCK_SCALES"]
    return 128 if _tile(build).sums * (2 if kept_twice else 1) <= 64 else 255


def _gemm(name: str, summary: str, instructions: Mapping[str, tuple[str, ...]]) -> Kernel:
    return Kernel(
        name,
        summary,
        # LDGSTS is cp.async, LDSM ldmatrix.
        {arch: (*own, "LDGSTS.E.BYPASS.LTC128B.128", "LDSM.16.M88.4") for arch, own in instructions.items()},
        # What e4m3 becomes where there is no instruction for it, and slow paths to the same sums.
        ("HMMA", "IDP"),
        lambda arch: _gemm_builds(name, arch),
        lambda build: _tile(build).threads,
        lambda build: _tile(build).shared_bytes,
        _gemm_registers,
    )


def _row_builds(arch: str) -> tuple[Build, ...]:
    sizes = product((256, 5120, rows_host.LARGEST_K), (torch.int8, torch.float8_e4m3fn))
    plain = [rows_host.build(k, dtype, "layer") for k, dtype in sizes]
    return (*plain, rows_host.build(1536, torch.int8, "none"), rows_host.build(1536, torch.int8, "rms"))


def _row_registers(build: Build) -> int:
    """Up to 4 chunks: at least 640 threads on a multiprocessor. 8 chunks are for rows that one block of 384 holds."""
    return 96 if dict(build.defines)["CHUNKS"] <= 4 else 168


_IMMA = ("IMMA.16832.S8.S8",)

KERNELS: tuple[Kernel, ...] = (
    _gemm(
        mma_gemm.INT8,
        "scaled_mm of INT8 by mma.sync",
        {"sm_80": _IMMA, "sm_86": _IMMA, "sm_89": _IMMA, "sm_90a": _IMMA},
    ),
    _gemm(mma_gemm.FP8, "scaled_mm of FP8 by mma.sync", {"sm_89": ("QMMA.16832.F32.E4M3.E4M3",)}),
    Kernel(
        rows_host.KERNEL,
        "rows to codes, with norm and modulation",
        # Rows are read 16 bytes and written 8 codes at a time.
        dict.fromkeys(("sm_80", "sm_86", "sm_89", "sm_90a"), ("LDG.E.128", "STG.E.64")),
        (),
        _row_builds,
        lambda build: dict(build.defines)["THREADS"] * dict(build.defines)["ROWS"],
        rows_host.shared_bytes,
        _row_registers,
    ),
)
