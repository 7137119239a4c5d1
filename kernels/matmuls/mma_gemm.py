"""The kernels of mma_gemm.cuh: `scaled_mm` by mma.sync, on Ampere and Ada."""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.kernels.arguments import SCALE_BLOCK, Epilogue
from quant.kernels.cost.assumed import value
from quant.kernels.cost.model import Work, resident
from quant.kernels.host import epilogue as endings
from quant.kernels.host.operands import Multiplied, Operands, aligned
from quant.kernels.host.structures import MmaArguments
from quant.kernels.matmuls.base import EVERYWHERE, FP8, INT8
from quant.kernels.matmuls.endings import by_block, others, usual
from quant.kernels.matmuls.gemm import Gemm
from quant.kernels.runtime.architectures import Architecture, architecture
from quant.kernels.runtime.launch import Build, Launch


class MmaTile(NamedTuple):
    """One way to cut a matmul; the macros of mma_gemm.cuh.

    Attributes:
        m, n: rows and columns of the result that a block computes.
        k: bytes of K in one step.
        warp_m, warp_n: what one warp computes.
        stages: steps in shared memory at one time.
    """

    m: int
    n: int
    k: int
    warp_m: int
    warp_n: int
    stages: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.m // self.warp_m * (self.n // self.warp_n) * 32

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: its stages, over which the epilogue later lays 16 staged rows of each warp."""
        staging = self.threads // 32 * 16 * self.warp_n * 4
        return max(self.stages * (self.m + self.n) * self.k, staging)

    @property
    def sums(self) -> int:
        """Accumulators of one thread."""
        return self.warp_m * self.warp_n // 32

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}, warps {self.warp_m}x{self.warp_n}, {self.stages} stages"


#: Tall ones for video tokens, flat ones for text tokens and single rows.
TILES = (
    MmaTile(256, 128, 64, 64, 64, 3),
    MmaTile(128, 256, 64, 64, 64, 3),
    MmaTile(128, 128, 64, 64, 32, 4),
    MmaTile(128, 128, 64, 64, 32, 3),
    MmaTile(128, 64, 64, 32, 32, 4),
    MmaTile(64, 128, 64, 32, 32, 4),
    MmaTile(64, 64, 128, 32, 32, 3),
    MmaTile(32, 64, 128, 16, 32, 4),
    MmaTile(16, 64, 128, 16, 32, 4),
)
#: A thread has 255 registers; besides accumulators it needs addresses and fragments.
_MOST_SUMS = 128
_REGISTERS_BESIDE_SUMS = 62


class MmaGemm(Gemm[MmaTile]):
    """A kernel made of mma_gemm.cuh."""

    tile = MmaTile
    macros = ("TILE_M", "TILE_N", "TILE_K", "WARP_M", "WARP_N", "STAGES")
    #: LDGSTS is cp.async, LDSM ldmatrix.
    other_instructions = ("LDGSTS.E.BYPASS.LTC128B.128", "LDSM.16.M88.4")

    def tiles(self, architecture: Architecture, *, fine_scales: bool = False) -> list[MmaTile]:
        most, shared = _MOST_SUMS // self.sums_kept(by_block=fine_scales), architecture.shared_bytes_per_block
        return [tile for tile in TILES if tile.sums <= most and tile.shared_bytes <= shared]

    def bytes_of(self, tile: MmaTile) -> int:
        return tile.shared_bytes

    def work(self, tile: MmaTile, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int) -> Work:
        warps, copied = tile.threads // 32, (tile.m + tile.n) * tile.k
        registers = tile.threads * (tile.sums + _REGISTERS_BESIDE_SUMS)
        return Work(
            blocks=-(-m // tile.m) * -(-n // tile.n),
            places=multiprocessors,
            together=resident(architecture, tile.shared_bytes, registers),
            warps=warps,
            steps=-(-k // tile.k),
            products=tile.m * tile.n * tile.k,
            rate=self.rate(architecture),
            shared_bytes=warps * (tile.warp_m + tile.warp_n) * tile.k + copied,
            port_bytes=copied,
            l2_bytes=((min(tile.m, m) + tile.n) * tile.k, value("l2_bytes_ampere")),
            not_overlapped=value("not_overlapped"),
            fill=value("fill_ampere"),
            finish=0.0,
        )

    def epilogue_rounds(self, tile: MmaTile) -> int:
        """16 rows at a time, by 8 columns a lane: `store_tile` of mma_gemm.cuh."""
        return 16 * tile.warp_n // (8 * 32)

    def plan(
        self, a: torch.Tensor, weight: torch.Tensor, epilogue: Epilogue, tile: MmaTile, *, multiprocessors: int = 0
    ) -> Multiplied:
        """As many blocks as tiles, whatever `multiprocessors`."""
        operands = Operands()
        (m, k), n = a.shape, weight.shape[0]
        ending = endings.plan(operands, epilogue, n, k)
        out = torch.empty(m, n, dtype=epilogue.out_dtype, device=a.device)
        a, b = aligned(a), aligned(weight)
        arguments = MmaArguments(
            a=operands.address(a),
            b=operands.address(b),
            out=operands.address(out),
            a_stride=a.stride(0),
            b_stride=b.stride(0),
            m=m,
            n=n,
            k=a.shape[1],
            k_blocks=-(-k // SCALE_BLOCK),
            epilogue=ending.structure,
        )
        operands.block_scales(arguments, epilogue, ending.blocks)
        grid = -(-m // tile.m) * -(-n // tile.n)
        build = self.build(tile, ending.defines)
        return Multiplied(Launch(build, grid, (tile.threads, 1), tile.shared_bytes, arguments), out, operands.held)

    def builds(self, arch: str) -> tuple[Build, ...]:
        """Every tile with the usual epilogue, the smallest with every other way to end, and the largest by block."""
        fitting = self.tiles(architecture(arch))
        twice = self.tiles(architecture(arch), fine_scales=True)
        return (
            *(self.build(tile, usual()) for tile in fitting),
            *(self.build(fitting[-1], way) for way in others(self.dtypes[0])),
            self.build(twice[0], by_block()),
        )

    def max_registers(self, build: Build) -> int:
        """For the blocks that are to share a multiprocessor: `RESIDENT` of mma_gemm.cuh."""
        tile = self.tile_of(build)
        if tile.sums * self.sums_kept(by_block=dict(build.defines)["BLOCK_SCALES"] > 0) > 64:
            return 255
        return 128 if tile.threads > 128 else 168


INT8_GEMM = MmaGemm.of("sm80_int8_gemm", "scaled_mm of INT8 by mma.sync", INT8, EVERYWHERE, "IMMA.16832.S8.S8")
# Hopper runs the instruction as FP16 on another unit, so it is not offered there.
FP8_GEMM = MmaGemm.of("sm89_fp8_gemm", "scaled_mm of FP8 by mma.sync", FP8, ("sm_89",), "QMMA.16832.F32.E4M3.E4M3")
KERNELS = (INT8_GEMM, FP8_GEMM)
