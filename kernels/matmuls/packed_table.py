"""The part of the catalogue with the weight as left operand: 2:4 sparse and 4-bit weights."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quant.kernels import hopper_swap_tiles, swap_kinds, swap_tiles
from quant.kernels.hopper_swap_tiles import HopperPackedTile
from quant.kernels.matmuls import mma_packed, sm90_packed
from quant.kernels.matmuls.base import Kernel, others, usual
from quant.kernels.matmuls.packed import Variant
from quant.kernels.runtime.architectures import architecture
from quant.kernels.runtime.launch import Build
from quant.kernels.swap_kinds import FP8, KINDS, SwapKind
from quant.kernels.swap_tiles import PackedTile

_EVERYWHERE = ("sm_80", "sm_86", "sm_89", "sm_90a")
#: LDGSTS is cp.async, LDSM ldmatrix.
_COPIES = ("LDGSTS.E.BYPASS.LTC128B.128", "LDSM.16.M88.4")
#: UTMALDG is the copy engine's, SYNCS a barrier that counts bytes.
_HOPPER_COPIES = ("UTMALDG.2D", "SYNCS")
#: Units that no other kernel than one for them should need, and slow paths to the same sums.
_MATRIX = ("HMMA", "IMMA", "QMMA", "HGMMA", "IGMMA", "QGMMA", "IDP")


def _mma_tile(build: Build) -> PackedTile:
    sizes = dict(build.defines)
    names = ("TILE_N", "TILE_M", "SLABS", "WARP_N", "WARP_M", "WARPS_K", "STAGES")
    return PackedTile(*(sizes[name] for name in names))


def _hopper_tile(build: Build) -> HopperPackedTile:
    sizes = dict(build.defines)
    return HopperPackedTile(*(sizes[name] for name in ("TILE_M", "GROUPS", "GROUP_N", "STAGES", "CLUSTER")))


def _variants(kind: SwapKind) -> Iterator[Variant]:
    """What a kernel may be compiled for beside its first dtype, one scale of a row in a step and no zero points."""
    yield from (Variant(dtype) for dtype in kind.dtypes[1:])
    if kind.sparse:
        return
    yield from (Variant(kind.dtypes[0], groups) for groups in ((2, 4) if kind.hopper and kind.in_bytes == 1 else (2,)))
    if kind.in_bytes == 2:
        yield from (Variant(dtype, groups, asymmetric=True) for dtype in kind.dtypes for groups in (1, 2))
        yield from (Variant(dtype, 2, asymmetric=True, own_scales=False) for dtype in kind.dtypes)


def _builds(kind: SwapKind, arch: str) -> tuple[Build, ...]:
    """Every tile with the usual epilogue; the one of most sums with every other way to end, and with every variant.

    The last two only for the oldest architecture: what is written for it is the same for the others.
    """

    def fitting(small_groups: bool) -> list[PackedTile] | list[HopperPackedTile]:
        if kind.hopper:
            return hopper_swap_tiles.candidates(architecture(arch), kind, small_groups=small_groups)
        return swap_tiles.candidates(architecture(arch), kind, small_groups=small_groups)

    def build(tile: PackedTile | HopperPackedTile, ending: dict[str, int], variant: Variant) -> Build:
        if isinstance(tile, HopperPackedTile):
            return sm90_packed.build(kind.name, tile, ending, variant)
        return mma_packed.build(kind.name, tile, ending, variant)

    def largest(small_groups: bool) -> PackedTile | HopperPackedTile:
        tiles: list[PackedTile | HopperPackedTile] = [*fitting(small_groups)]
        return max(tiles, key=lambda tile: tile.sums)

    plain = Variant(kind.dtypes[0])
    tiles = tuple(build(tile, usual(), plain) for tile in fitting(False))
    if arch != _first(kind):
        return tiles
    return (
        *tiles,
        *(build(largest(False), way, plain) for way in others(FP8 if FP8 in kind.dtypes else torch.int8)),
        *(build(largest(variant.groups > 1), usual(), variant) for variant in _variants(kind)),
    )


def _first(kind: SwapKind) -> str:
    """The oldest architecture that a kernel is for."""
    return "sm_90a" if kind.hopper else "sm_89" if FP8 in kind.dtypes else "sm_80"


def _registers(build: Build) -> int:
    """For the blocks that are to lie beside each other on a multiprocessor: `RESIDENT` of mma_swap_ab.cuh."""
    tile = _mma_tile(build)
    if tile.sums * (2 if KINDS[build.kernel].promoted else 1) > 32:
        return 255
    return 128 if tile.threads > 128 else 168


def _hopper_registers(build: Build) -> int:
    """All of a multiprocessor's, shared by the threads of a block; two warpgroups that multiply then take more."""
    return min(65536 // _hopper_tile(build).threads // 8 * 8, 255)


def _kernel(name: str, summary: str, instruction: str, architectures: tuple[str, ...]) -> Kernel:
    kind = KINDS[name]
    unit = instruction.split(".")[0]
    limits = {each: 0 for each in _MATRIX if each != unit}
    if kind.hopper:
        return Kernel(
            name,
            summary,
            {"sm_90a": (instruction, *_HOPPER_COPIES)},
            {**limits, "MEMBAR.ALL.GPU": 2},  # of the two barriers of a cluster
            lambda arch: _builds(kind, arch),
            lambda build: _hopper_tile(build).threads,
            lambda build: _hopper_tile(build).shared_bytes(kind),
            _hopper_registers,
        )
    return Kernel(
        name,
        summary,
        dict.fromkeys(architectures, (instruction, *_COPIES)),
        limits,
        lambda arch: _builds(kind, arch),
        lambda build: _mma_tile(build).threads,
        lambda build: _mma_tile(build).shared_bytes(kind),
        _registers,
    )


KERNELS: tuple[Kernel, ...] = (
    _kernel(swap_kinds.HOPPER_SPARSE_INT8, "2:4 INT8 by wgmma.sp", "IGMMA.SP.64x", ("sm_90a",)),
    _kernel(swap_kinds.HOPPER_SPARSE_FP8, "2:4 FP8 by wgmma.sp", "QGMMA.SP.64x", ("sm_90a",)),
    _kernel(swap_kinds.HOPPER_SPARSE_FLOATS, "2:4 bf16 and fp16 by wgmma.sp", "HGMMA.SP.64x", ("sm_90a",)),
    _kernel(swap_kinds.SPARSE_INT8, "2:4 INT8 by mma.sp", "IMMA.SP.16864.S8.S8", _EVERYWHERE),
    _kernel(swap_kinds.SPARSE_FP8, "2:4 FP8 by mma.sp", "QMMA.SP.16864.F32.E4M3.E4M3", ("sm_89",)),
    _kernel(swap_kinds.SPARSE_FLOATS, "2:4 bf16 and fp16 by mma.sp", "HMMA.SP.16832.F32", _EVERYWHERE),
    _kernel(swap_kinds.HOPPER_W4A16, "INT4 weights with bf16 and fp16 by wgmma", "HGMMA.64x", ("sm_90a",)),
    _kernel(swap_kinds.HOPPER_W4A8, "INT4 weights with INT8 by wgmma", "IGMMA.64x", ("sm_90a",)),
    _kernel(swap_kinds.HOPPER_W4AFP8, "INT4 weights with FP8 by wgmma", "QGMMA.64x", ("sm_90a",)),
    _kernel(swap_kinds.W4A16, "INT4 weights with bf16 and fp16 by mma.sync", "HMMA.16816.F32", _EVERYWHERE),
    _kernel(swap_kinds.W4A8, "INT4 weights with INT8 by mma.sync", "IMMA.16832.S8.S8", _EVERYWHERE),
    _kernel(swap_kinds.W4AFP8, "INT4 weights with FP8 by mma.sync", "QMMA.16832.F32.E4M3.E4M3", ("sm_89",)),
)
