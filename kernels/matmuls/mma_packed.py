"""The kernels of mma_swap_ab.cuh: the weight as left operand, 2:4 sparse or of 4 bits, by mma.sync on any GPU."""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.kernels.arguments import Epilogue, Sparse24Weight
from quant.kernels.cost.assumed import value
from quant.kernels.cost.model import Work, resident
from quant.kernels.host import epilogue as endings
from quant.kernels.host.operands import Multiplied, Operands, aligned
from quant.kernels.host.structures import SwapArguments
from quant.kernels.layouts import mma_sparse24
from quant.kernels.matmuls.base import EVERYWHERE, FLOATS_16, FP8, INT8
from quant.kernels.matmuls.packed import Packed, Weight, groups
from quant.kernels.runtime.architectures import Architecture
from quant.kernels.runtime.launch import Build, Launch

SLAB = 64  # columns of K


class PackedTile(NamedTuple):
    """One way to cut a matmul; the macros of mma_swap_ab.cuh.

    Attributes:
        n, m: channels and tokens that a block computes.
        slabs: of 64 columns of K in one step.
        warp_n, warp_m: what one warp computes.
        warps_k: warps that share the slabs of a step.
        stages: steps in shared memory at one time.
    """

    n: int
    m: int
    slabs: int
    warp_n: int
    warp_m: int
    warps_k: int
    stages: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.n // self.warp_n * (self.m // self.warp_m) * self.warps_k * 32

    @property
    def sums(self) -> int:
        """Accumulators of one thread."""
        return self.warp_m * self.warp_n // 32

    def __str__(self) -> str:
        shared = f", {self.warps_k} warps along K" if self.warps_k > 1 else ""
        size = f"{self.m}x{self.n}x{self.slabs * SLAB}"
        return f"{size}, warps {self.warp_m}x{self.warp_n}{shared}, {self.stages} stages"


#: For video tokens; then for text tokens; then for few tokens, where warps share K.
TILES = (
    PackedTile(256, 128, 1, 64, 64, 1, 3),
    PackedTile(128, 256, 1, 64, 64, 1, 3),
    PackedTile(128, 128, 1, 64, 64, 1, 4),
    PackedTile(128, 128, 1, 64, 32, 1, 3),
    PackedTile(128, 128, 1, 32, 64, 1, 3),
    PackedTile(128, 128, 2, 64, 32, 1, 3),
    PackedTile(64, 128, 1, 32, 64, 1, 4),
    PackedTile(128, 64, 1, 32, 64, 1, 4),
    PackedTile(64, 64, 2, 32, 32, 1, 3),
    PackedTile(64, 32, 2, 32, 32, 2, 4),
    PackedTile(64, 16, 4, 32, 16, 4, 4),
    PackedTile(64, 8, 4, 32, 8, 4, 4),
    PackedTile(32, 32, 4, 32, 32, 4, 3),
    PackedTile(32, 16, 8, 32, 16, 8, 3),
    PackedTile(32, 8, 8, 32, 8, 8, 3),
)
#: A thread has 255 registers; besides accumulators it needs addresses and fragments.
_MOST_SUMS = 128
_REGISTERS_BESIDE_SUMS = 80


class MmaPacked(Packed[PackedTile]):
    """A kernel made of mma_swap_ab.cuh."""

    tile = PackedTile
    sparse_layout = mma_sparse24.NAME
    macros = ("TILE_N", "TILE_M", "SLABS", "WARP_N", "WARP_M", "WARPS_K", "STAGES")
    #: LDGSTS is cp.async, LDSM ldmatrix.
    other_instructions = ("LDGSTS.E.BYPASS.LTC128B.128", "LDSM.16.M88.4")

    @property
    def step_k(self) -> int:
        return SLAB

    @property
    def metadata_bytes(self) -> int:
        return 128 if self.sparse else 0

    def tiles(self, architecture: Architecture, *, fine_scales: bool = False) -> list[PackedTile]:
        """Half as many sums where they are kept twice, and where the fragments of 4-bit weights have to be made."""
        most, shared = _MOST_SUMS // (self.sums_kept() if self.sparse else 2), architecture.shared_bytes_per_block
        return [tile for tile in TILES if tile.sums <= most and self.bytes_of(tile) <= shared]

    def stage_bytes(self, tile: PackedTile) -> int:
        """Bytes of a step: tokens, weight, metadata."""
        weight = tile.n // 16 * (self.weight_bytes + self.metadata_bytes)
        return tile.slabs * (tile.m * SLAB * self.in_bytes + weight)

    def bytes_of(self, tile: PackedTile) -> int:
        """The stages, over which the epilogue later lays 8 staged tokens of each warp."""
        return max(tile.stages * self.stage_bytes(tile), tile.threads // 32 * 8 * (tile.warp_n + 4) * 4)

    def work(self, tile: PackedTile, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int) -> Work:
        step_k = tile.slabs * SLAB
        # Tokens are read by the warps of all channels, the weight by those of all tokens; both are written once.
        tokens = tile.m * step_k * self.in_bytes
        weight = self.stage_bytes(tile) - tokens
        registers = tile.threads * (tile.sums * self.sums_kept() + _REGISTERS_BESIDE_SUMS)
        return Work(
            blocks=-(-m // tile.m) * -(-n // tile.n),
            places=multiprocessors,
            together=resident(architecture, self.bytes_of(tile), registers),
            warps=tile.threads // 32,
            steps=-(-k // step_k),
            products=tile.m * tile.n * step_k / self.speed,
            rate=self.rate(architecture),
            shared_bytes=tokens * (1 + tile.n // tile.warp_n) + weight * (1 + tile.m // tile.warp_m),
            port_bytes=tokens + weight,
            l2_bytes=(min(tile.m, m) * step_k * self.in_bytes + weight, value("l2_bytes_ampere")),
            not_overlapped=value("not_overlapped"),
            fill=value("fill_ampere"),
            finish=0.0,
        )

    def epilogue_rounds(self, tile: PackedTile) -> int:
        """8 tokens at a time, by 8 channels a lane of the warps that share K: `store_tile` of mma_swap_ab.cuh."""
        return max(8 * tile.warp_n // (8 * 32 * tile.warps_k), 1)

    def plan(
        self, a: torch.Tensor, weight: Weight, epilogue: Epilogue, tile: PackedTile, *, multiprocessors: int = 0
    ) -> Multiplied:
        """As many blocks as tiles, whatever `multiprocessors`."""
        operands = Operands()
        m, k = a.shape
        ending = endings.plan(operands, epilogue, weight.n, k)
        out = torch.empty(m, weight.n, dtype=epilogue.out_dtype, device=a.device)
        a = aligned(a)
        fragments = weight.values if isinstance(weight, Sparse24Weight) else weight.packed
        scales = groups(operands, a.dtype, weight, k, SLAB)
        arguments = SwapArguments(
            a=operands.address(a),
            a_stride=a.stride(0) * a.itemsize,
            weight=operands.address(fragments),
            metadata=operands.address(weight.meta if isinstance(weight, Sparse24Weight) else None),
            out=operands.address(out),
            m=m,
            n=weight.n,
            k=a.shape[1] * a.itemsize,
            slabs=fragments.shape[0],
            blocks=fragments.shape[1],
            promote_slabs=scales.promote_steps,
            scales=scales.structure,
            epilogue=ending.structure,
        )
        build = self.build(tile, scales.variant.defines(), ending.defines)
        grid = -(-m // tile.m) * -(-weight.n // tile.n)
        return Multiplied(Launch(build, grid, (tile.threads, 1), self.bytes_of(tile), arguments), out, operands.held)

    def max_registers(self, build: Build) -> int:
        """For the blocks that are to share a multiprocessor: `RESIDENT` of mma_swap_ab.cuh."""
        tile = self.tile_of(build)
        if tile.sums * self.sums_kept() > 32:
            return 255
        return 128 if tile.threads > 128 else 168


SPARSE_INT8 = MmaPacked.of_sparse(
    "sm80_sparse_int8_gemm", "2:4 INT8 by mma.sp", (INT8,), EVERYWHERE, "IMMA.SP.16864.S8.S8"
)
SPARSE_FP8 = MmaPacked.of_sparse(
    "sm89_sparse_fp8_gemm", "2:4 FP8 by mma.sp", (FP8,), ("sm_89",), "QMMA.SP.16864.F32.E4M3.E4M3"
)
SPARSE_FLOATS = MmaPacked.of_sparse(
    "sm80_sparse_16bit_gemm", "2:4 bf16 and fp16 by mma.sp", FLOATS_16, EVERYWHERE, "HMMA.SP.16832.F32"
)
W4A16 = MmaPacked.of_int4(
    "sm80_w4a16_gemm", "INT4 weights with bf16 and fp16 by mma.sync", FLOATS_16, EVERYWHERE, "HMMA.16816.F32"
)
W4A8 = MmaPacked.of_int4(
    "sm80_w4a8_gemm", "INT4 weights with INT8 by mma.sync", (INT8,), EVERYWHERE, "IMMA.16832.S8.S8"
)
W4AFP8 = MmaPacked.of_int4(
    "sm89_w4afp8_gemm", "INT4 weights with FP8 by mma.sync", (FP8,), ("sm_89",), "QMMA.16832.F32.E4M3.E4M3"
)
SPARSE = (SPARSE_INT8, SPARSE_FP8, SPARSE_FLOATS)
INT4 = (W4A16, W4A8, W4AFP8)
