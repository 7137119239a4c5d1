"""The CUDA kernels of this project and what their machine code must be; checked by compiling them, without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import torch

from quant.kernels import hopper_tiles, tiles
from quant.kernels.hopper_tiles import HopperTile
from quant.kernels.host import structures
from quant.kernels.matmuls import mma_gemm, packed_table, sm90_gemm
from quant.kernels.matmuls import quantize_rows as rows_host
from quant.kernels.matmuls.base import Kernel as Kernel
from quant.kernels.matmuls.base import by_block, others, usual
from quant.kernels.runtime.architectures import architecture
from quant.kernels.runtime.launch import Build
from quant.kernels.tiles import Tile


def _mma_tile(build: Build) -> Tile:
    sizes = dict(build.defines)
    return Tile(*(sizes[name] for name in ("TILE_M", "TILE_N", "TILE_K", "WARP_M", "WARP_N", "STAGES")))


def _mma_builds(kernel: str, arch: str) -> tuple[Build, ...]:
    """Every tile with the usual epilogue, the smallest with every other way to end, and the largest by block."""
    codes = torch.float8_e4m3fn if kernel == mma_gemm.FP8 else torch.int8
    fitting = tiles.candidates(architecture(arch), promoted=kernel == mma_gemm.FP8)
    twice = tiles.candidates(architecture(arch), promoted=True)
    return (
        *(mma_gemm.build(kernel, tile, usual()) for tile in fitting),
        *(mma_gemm.build(kernel, fitting[-1], way) for way in others(codes)),
        mma_gemm.build(kernel, twice[0], by_block()),
    )


def _mma_registers(build: Build) -> int:
    """For the blocks that are to lie beside each other on a multiprocessor: `RESIDENT` of mma_gemm.cuh."""
    tile = _mma_tile(build)
    twice = build.kernel == mma_gemm.FP8 or dict(build.defines)["BLOCK_SCALES"]
    if tile.sums * (2 if twice else 1) > 64:
        return 255
    return 128 if tile.threads > 128 else 168


def _mma(name: str, summary: str, instructions: Mapping[str, tuple[str, ...]]) -> Kernel:
    return Kernel(
        name,
        summary,
        # LDGSTS is cp.async, LDSM ldmatrix.
        {arch: (*own, "LDGSTS.E.BYPASS.LTC128B.128", "LDSM.16.M88.4") for arch, own in instructions.items()},
        # What e4m3 becomes where there is no instruction for it, and slow paths to the same sums.
        {"HMMA": 0, "IDP": 0},
        lambda arch: _mma_builds(name, arch),
        lambda build: _mma_tile(build).threads,
        lambda build: _mma_tile(build).shared_bytes,
        _mma_registers,
    )


def _hopper_tile(build: Build) -> HopperTile:
    sizes = dict(build.defines)
    return HopperTile(*(sizes[name] for name in ("TILE_N", "GROUPS", "GROUP_M", "STAGES", "CLUSTER")))


def _hopper_builds(kernel: str) -> tuple[Build, ...]:
    """Every tile with the usual epilogue, the one of most sums with every other way to end, and one by block."""
    fp8, arch = kernel == sm90_gemm.FP8, architecture("sm_90a")
    codes = torch.float8_e4m3fn if fp8 else torch.int8
    fitting = hopper_tiles.candidates(arch, promoted=fp8, block_scales=False)
    blocked = hopper_tiles.candidates(arch, promoted=True, block_scales=True)
    largest = max(fitting, key=lambda tile: tile.sums)

    def build(tile: HopperTile, ending: dict[str, int]) -> Build:
        staged = sm90_gemm.is_staged(tile, 1024, _ITEMSIZES[ending["OUT"]], aligned=bool(ending["ALIGNED"]))
        return sm90_gemm.build(kernel, tile, ending, staged=staged)

    return (
        *(build(tile, usual()) for tile in fitting),
        *(build(largest, way) for way in others(codes)),
        build(blocked[0], by_block()),
    )


_ITEMSIZES = {number: dtype.itemsize for dtype, number in structures.DTYPES.items()}


def _hopper_registers(build: Build) -> int:
    """All of a multiprocessor's, shared by the threads of a block; two warpgroups that multiply then take more."""
    threads = _hopper_tile(build).threads
    return min(65536 // threads // 8 * 8, 255)


def _hopper(name: str, summary: str, instruction: str) -> Kernel:
    return Kernel(
        name,
        summary,
        # UTMALDG is the copy engine's, SYNCS a barrier that counts bytes.
        {"sm_90a": (instruction, "UTMALDG.2D", "SYNCS")},
        # A fence of the whole GPU belongs to the two barriers of a cluster, and not into the loop.
        {"HMMA": 0, "IMMA": 0, "HGMMA": 0, "IDP": 0, "MEMBAR.ALL.GPU": 2},
        lambda arch: _hopper_builds(name),
        lambda build: _hopper_tile(build).threads,
        lambda build: _hopper_tile(build).shared_bytes,
        _hopper_registers,
    )


def _row_builds(arch: str) -> tuple[Build, ...]:
    sizes = product((256, 5120, rows_host.LARGEST_K), (torch.int8, torch.float8_e4m3fn))
    plain = [rows_host.build(k, dtype, "layer") for k, dtype in sizes]
    return (*plain, rows_host.build(1536, torch.int8, "none"), rows_host.build(1536, torch.int8, "rms"))


def _row_registers(build: Build) -> int:
    """At least 640 threads on a multiprocessor, which are one block where rows are longest."""
    return 96


_IMMA = ("IMMA.16832.S8.S8",)

KERNELS: tuple[Kernel, ...] = (
    _hopper(sm90_gemm.INT8, "scaled_mm of INT8 by wgmma", "IGMMA.64x"),
    _hopper(sm90_gemm.FP8, "scaled_mm of FP8 by wgmma", "QGMMA.64x"),
    _mma(
        mma_gemm.INT8,
        "scaled_mm of INT8 by mma.sync",
        {"sm_80": _IMMA, "sm_86": _IMMA, "sm_89": _IMMA, "sm_90a": _IMMA},
    ),
    _mma(mma_gemm.FP8, "scaled_mm of FP8 by mma.sync", {"sm_89": ("QMMA.16832.F32.E4M3.E4M3",)}),
    *packed_table.KERNELS,
    Kernel(
        rows_host.KERNEL,
        "rows to codes, with norm and modulation",
        # Rows are read 16 bytes and written 8 codes at a time.
        dict.fromkeys(("sm_80", "sm_86", "sm_89", "sm_90a"), ("LDG.E.128", "STG.E.64")),
        {},
        _row_builds,
        lambda build: dict(build.defines)["THREADS"] * dict(build.defines)["ROWS"],
        rows_host.shared_bytes,
        _row_registers,
    ),
)
