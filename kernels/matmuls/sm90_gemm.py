"""The kernels of sm90_gemm.cuh: `scaled_mm` by wgmma, on Hopper."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import torch

from quant.kernels.arguments import SCALE_BLOCK, Epilogue
from quant.kernels.cost.assumed import value
from quant.kernels.cost.model import Work
from quant.kernels.host import epilogue as endings
from quant.kernels.host.operands import VECTOR_BYTES, Multiplied, Operands, aligned
from quant.kernels.host.structures import DTYPES, HopperArguments
from quant.kernels.matmuls.base import FP8, INT8
from quant.kernels.matmuls.endings import by_block, others, usual
from quant.kernels.matmuls.gemm import Gemm
from quant.kernels.runtime.architectures import Architecture, architecture
from quant.kernels.runtime.launch import Build, Launch, TensorMap

_K = 128  # bytes of K in a stage
_BOX = 64 * 128  # bytes of a box of staged results; each mathematician has two
_BARRIERS = 16  # bytes of a stage's two
#: A box of results: what one warpgroup writes at a time.
_STAGED_ROWS, _STAGED_BYTES = 64, 128


class HopperTile(NamedTuple):
    """One way to cut a matmul; the macros of sm90_gemm.cuh.

    Attributes:
        n: columns of the result that a block computes.
        groups: warpgroups that multiply; one more copies.
        group_m: rows of each, 64 or 128.
        stages: steps of 128 bytes of K in shared memory at one time.
        cluster: blocks that share the rows of b.
    """

    n: int
    groups: int
    group_m: int
    stages: int
    cluster: int

    @property
    def m(self) -> int:
        """Rows of the result that a block computes."""
        return self.groups * self.group_m

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 128 * (1 + self.groups)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: stages, staging, barriers."""
        return self.stages * ((self.m + self.n) * _K + _BARRIERS) + 2 * self.groups * _BOX

    @property
    def sums(self) -> int:
        """Accumulators of one thread."""
        return self.group_m * self.n // 128

    @property
    def resident(self) -> int:
        """Blocks that share a multiprocessor: two narrow ones, whose steps wait more than they work."""
        return 2 if self.groups == 1 and self.n <= 64 else 1

    def __str__(self) -> str:
        cluster = ", clusters of 2" if self.cluster > 1 else ""
        return f"{self.m}x{self.n}x{_K}, warpgroups {self.group_m}x{self.n}, {self.stages} stages{cluster}"


TILES = (
    HopperTile(128, 2, 128, 4, 2),
    HopperTile(128, 2, 128, 4, 1),
    HopperTile(256, 2, 64, 4, 2),
    HopperTile(192, 2, 64, 4, 2),
    HopperTile(192, 2, 64, 4, 1),
    HopperTile(128, 2, 64, 6, 2),
    HopperTile(128, 2, 64, 6, 1),
    HopperTile(128, 1, 64, 8, 1),
    HopperTile(64, 1, 64, 5, 1),
    HopperTile(32, 1, 64, 7, 1),
)
#: A mathematician has 232 registers; besides accumulators it needs addresses and the epilogue's values.
_MOST_SUMS = 192


def is_staged(tile: HopperTile, n: int, itemsize: int, *, aligned: bool) -> bool:
    """Do results leave by the copy engine? It takes rows of whole 16 bytes, and boxes that fill a tile."""
    row = n * itemsize
    # The kernel counts bytes of a row in 32 bits.
    return aligned and row % VECTOR_BYTES == 0 and row < 2**31 and tile.n * itemsize % _STAGED_BYTES == 0


class Sm90Gemm(Gemm[HopperTile]):
    """A kernel made of sm90_gemm.cuh."""

    tile = HopperTile
    macros = ("TILE_N", "GROUPS", "GROUP_M", "STAGES", "CLUSTER")
    #: UTMALDG is the copy engine's, SYNCS a barrier that counts bytes.
    other_instructions = ("UTMALDG.2D", "SYNCS")
    #: A fence of the whole GPU belongs to the two barriers of a cluster, and not into the loop.
    rare = MappingProxyType({"MEMBAR.ALL.GPU": 2})

    def tiles(self, architecture: Architecture, *, fine_scales: bool = False) -> list[HopperTile]:
        """With scales by block a tile's columns share one."""
        most, shared = _MOST_SUMS // self.sums_kept(by_block=fine_scales), architecture.shared_bytes_per_block
        return [
            tile
            for tile in TILES
            if tile.sums <= most and tile.shared_bytes <= shared and not (fine_scales and SCALE_BLOCK % tile.n)
        ]

    def bytes_of(self, tile: HopperTile) -> int:
        return tile.shared_bytes

    def work(self, tile: HopperTile, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int) -> Work:
        """Every instruction of a warpgroup reads 64 rows of a and all of b from shared memory."""
        clusters = -(-m // (tile.m * tile.cluster)) * -(-n // tile.n)
        copied = (tile.m + tile.n) * _K
        return Work(
            blocks=clusters * tile.cluster,
            places=max(multiprocessors // tile.cluster * tile.cluster, 1),
            together=tile.resident,
            warps=4 * tile.groups,
            steps=-(-k // _K),
            products=tile.m * tile.n * _K,
            rate=self.rate(architecture),
            shared_bytes=tile.m // 64 * (64 + tile.n) * _K,
            port_bytes=copied,
            l2_bytes=((min(tile.m, m) + tile.n / tile.cluster) * _K, value("l2_bytes_hopper")),
            not_overlapped=value("not_overlapped_hopper"),
            fill=value("fixed"),
            finish=value("finish_hopper") * tile.sums,
        )

    def epilogue_rounds(self, tile: HopperTile) -> int:
        """It has no loops."""
        return 1

    def plan(
        self, a: torch.Tensor, weight: torch.Tensor, epilogue: Epilogue, tile: HopperTile, *, multiprocessors: int
    ) -> Multiplied:
        """As many blocks as fit on the device stay on it until all tiles are done."""
        operands = Operands()
        (m, k), n = a.shape, weight.shape[0]
        ending = endings.plan(operands, epilogue, n, k)
        out = torch.empty(m, n, dtype=epilogue.out_dtype, device=a.device)
        a, b = aligned(a), aligned(weight)
        staged = is_staged(tile, n, out.itemsize, aligned=bool(ending.defines["ALIGNED"]))
        arguments = HopperArguments(
            result=operands.address(out),
            m=m,
            n=n,
            k=a.shape[1],
            k_blocks=-(-k // SCALE_BLOCK),
            epilogue=ending.structure,
        )
        operands.block_scales(arguments, epilogue, ending.blocks)
        maps = [("a", operands.matrix(a, tile.m)), ("b", operands.matrix(b, tile.n // tile.cluster))]
        if staged:
            row = n * out.itemsize
            maps.append(("out", TensorMap(out.data_ptr(), m, row, row, _STAGED_ROWS, _STAGED_BYTES)))
        tiles = -(-m // (tile.m * tile.cluster)) * -(-n // tile.n)
        clusters = min(tiles, max(multiprocessors * tile.resident // tile.cluster, 1))
        launch = Launch(
            self.build(tile, {"STAGED": int(staged)}, ending.defines),
            clusters * tile.cluster,
            (tile.threads, 1),
            tile.shared_bytes,
            arguments,
            tuple(maps),
            tile.cluster,
        )
        return Multiplied(launch, out, operands.held)

    def builds(self, arch: str) -> tuple[Build, ...]:
        """Every tile with the usual epilogue, the one of most sums with every other way to end, and one by block."""
        fitting = self.tiles(architecture(arch))
        blocked = self.tiles(architecture(arch), fine_scales=True)
        largest = max(fitting, key=lambda tile: tile.sums)

        def build(tile: HopperTile, ending: dict[str, int]) -> Build:
            staged = is_staged(tile, 1024, _ITEMSIZES[ending["OUT"]], aligned=bool(ending["ALIGNED"]))
            return self.build(tile, {"STAGED": int(staged)}, ending)

        return (
            *(build(tile, usual()) for tile in fitting),
            *(build(largest, way) for way in others(self.dtypes[0])),
            build(blocked[0], by_block()),
        )

    def max_registers(self, build: Build) -> int:
        """All of a multiprocessor's, shared by the threads of a block; two warpgroups that multiply then take more."""
        return min(65536 // self.threads(build) // 8 * 8, 255)


_ITEMSIZES = {number: dtype.itemsize for dtype, number in DTYPES.items()}


INT8_GEMM = Sm90Gemm.of("sm90_int8_gemm", "scaled_mm of INT8 by wgmma", INT8, ("sm_90a",), "IGMMA.64x")
FP8_GEMM = Sm90Gemm.of("sm90_fp8_gemm", "scaled_mm of FP8 by wgmma", FP8, ("sm_90a",), "QGMMA.64x")
KERNELS = (INT8_GEMM, FP8_GEMM)
