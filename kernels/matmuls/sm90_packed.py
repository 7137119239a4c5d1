"""The kernels of sm90_swap_ab.cuh: the weight as left operand, 2:4 sparse or of 4 bits, by wgmma on Hopper."""

from __future__ import annotations

from types import MappingProxyType
from typing import NamedTuple

import torch

from quant.kernels.arguments import Epilogue, Sparse24Weight
from quant.kernels.cost.assumed import value
from quant.kernels.cost.model import Work
from quant.kernels.host import epilogue as endings
from quant.kernels.host.operands import Multiplied, Operands, aligned
from quant.kernels.host.structures import HopperSwapArguments
from quant.kernels.layouts import wgmma_sparse24
from quant.kernels.matmuls.base import FLOATS_16, FP8, INT8
from quant.kernels.matmuls.packed import Packed, Weight, groups
from quant.kernels.runtime.architectures import Architecture
from quant.kernels.runtime.launch import Build, Launch, TensorMap

_K = 128  # bytes of a token's row in a stage
_STAGING = 32 * (64 + 4) * 4  # bytes in which a mathematician turns tokens and channels
_BARRIERS = 16  # bytes of a stage's two
_ROW = 128  # bytes of a row of the maps of what has no rows of its own
#: Fewer tokens of 4-bit weights run by warps that share K, on Hopper too.
_MANY = 33


class HopperPackedTile(NamedTuple):
    """One way to cut a matmul; the macros of sm90_swap_ab.cuh.

    Attributes:
        m: tokens that a block computes.
        groups: warpgroups that multiply; one more copies.
        group_n: channels of each, 64 or 128.
        stages: steps of 128 bytes of a token's row in shared memory at one time.
        cluster: blocks that share tokens.
    """

    m: int
    groups: int
    group_n: int
    stages: int
    cluster: int

    @property
    def n(self) -> int:
        """Channels that a block computes."""
        return self.groups * self.group_n

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 128 * (1 + self.groups)

    @property
    def sums(self) -> int:
        """Accumulators of one thread."""
        return self.group_n * self.m // 128

    @property
    def resident(self) -> int:
        """Blocks that share a multiprocessor: two narrow ones, whose steps wait more than they work."""
        return 2 if self.groups == 1 and self.m <= 64 else 1

    def clusters(self, multiprocessors: int) -> int:
        """Those that are on a GPU at one time.

        A cluster lies within a GPC. Pairs fill all of them; of larger ones only those that 16 multiprocessors hold are
        counted on, though some GPCs have 18: one cluster that had to wait for another would take twice the time.
        """
        if self.cluster <= 2:
            return max(multiprocessors * self.resident // self.cluster, 1)
        return max(multiprocessors // _GPC * (_GPC // self.cluster) * self.resident, 1)

    def __str__(self) -> str:
        cluster = f", clusters of {self.cluster}" if self.cluster > 1 else ""
        return f"{self.m}x{self.n}x{_K} bytes, warpgroups {self.m}x{self.group_n}, {self.stages} stages{cluster}"


_GPC = 16  # multiprocessors

TILES = (
    HopperPackedTile(256, 2, 64, 4, 4),
    HopperPackedTile(256, 2, 64, 4, 2),
    HopperPackedTile(256, 2, 64, 4, 1),
    HopperPackedTile(128, 2, 128, 4, 4),
    HopperPackedTile(128, 2, 128, 4, 2),
    HopperPackedTile(128, 2, 128, 4, 1),
    HopperPackedTile(192, 2, 64, 4, 4),
    HopperPackedTile(192, 2, 64, 4, 2),
    HopperPackedTile(192, 2, 64, 4, 1),
    HopperPackedTile(128, 2, 64, 6, 2),
    HopperPackedTile(128, 2, 64, 6, 1),
    HopperPackedTile(64, 2, 64, 6, 1),
    HopperPackedTile(64, 1, 64, 4, 1),
    HopperPackedTile(32, 1, 64, 6, 1),
)
#: A mathematician has 232 registers; besides accumulators it needs addresses, fragments and the epilogue's values.
_MOST_SUMS = 192


class Sm90Packed(Packed[HopperPackedTile]):
    """A kernel made of sm90_swap_ab.cuh."""

    tile = HopperPackedTile
    sparse_layout = wgmma_sparse24.NAME
    macros = ("TILE_M", "GROUPS", "GROUP_N", "STAGES", "CLUSTER")
    #: UTMALDG is the copy engine's, SYNCS a barrier that counts bytes.
    other_instructions = ("UTMALDG.2D", "SYNCS")
    rare = MappingProxyType({"MEMBAR.ALL.GPU": 2})  # of the two barriers of a cluster

    @property
    def step_k(self) -> int:
        return _K // self.in_bytes

    @property
    def metadata_bytes(self) -> int:
        """Two words for each thread and 128 bytes of a row, of which 16-bit types use half."""
        return 128 * self.in_bytes if self.sparse else 0

    def tiles(self, architecture: Architecture, *, fine_scales: bool = False) -> list[HopperPackedTile]:
        """Several scales of one row in a step take registers."""
        most = (_MOST_SUMS - (64 if fine_scales else 0)) // self.sums_kept()
        shared = architecture.shared_bytes_per_block
        return [tile for tile in TILES if tile.sums <= most and self.bytes_of(tile) <= shared]

    def step_bytes(self, tile: HopperPackedTile) -> int:
        """Bytes of the weight in a step, metadata included."""
        return tile.n // 16 * (self.weight_bytes + self.metadata_bytes) * 2 // self.in_bytes

    def bytes_of(self, tile: HopperPackedTile) -> int:
        """Stages, barriers, staging."""
        return tile.stages * (tile.m * _K + self.step_bytes(tile) + _BARRIERS) + tile.groups * _STAGING

    def work(
        self, tile: HopperPackedTile, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int
    ) -> Work:
        """Every instruction of a warpgroup reads all its tokens from shared memory."""
        clusters = -(-n // (tile.n * tile.cluster)) * -(-m // tile.m)
        weight = self.step_bytes(tile)
        return Work(
            blocks=clusters * tile.cluster,
            places=max(tile.clusters(multiprocessors) * tile.cluster // tile.resident, 1),
            together=tile.resident,
            warps=4 * tile.groups,
            steps=-(-k // self.step_k),
            products=tile.m * tile.n * self.step_k / self.speed,
            rate=self.rate(architecture),
            shared_bytes=tile.n // 64 * tile.m * _K + weight,
            port_bytes=tile.m * _K + weight,
            l2_bytes=(min(tile.m, m) * _K / tile.cluster + weight, value("l2_bytes_hopper")),
            not_overlapped=value("not_overlapped_hopper"),
            fill=value("fixed"),
            finish=value("finish_hopper") * tile.sums,
        )

    def epilogue_rounds(self, tile: HopperPackedTile) -> int:
        """32 tokens of 64 channels at a time, by 8 channels a thread: `store_tile` of sm90_swap_ab.cuh."""
        return 32 * 64 // (8 * 128)

    def plan(
        self, a: torch.Tensor, weight: Weight, epilogue: Epilogue, tile: HopperPackedTile, *, multiprocessors: int
    ) -> Multiplied:
        """As many blocks as fit on the device stay on it until all tiles are done."""
        operands = Operands()
        m, k = a.shape
        n = weight.n
        ending = endings.plan(operands, epilogue, n, k)
        out = torch.empty(m, n, dtype=epilogue.out_dtype, device=a.device)
        a = aligned(a)
        scales = groups(operands, a.dtype, weight, k, self.step_k)
        maps = [("a", operands.matrix(a, tile.m // tile.cluster))]
        if isinstance(weight, Sparse24Weight):
            values, meta = aligned(weight.values), weight.meta
            weight_rows = meta[0].nbytes // _ROW
            maps += [
                ("weight", operands.matrix(values, tile.n, 64, 64)),
                ("metadata", _rows(operands, meta, tile.n // 8)),
            ]
        else:
            weight_rows = weight.packed[0].nbytes // _ROW
            maps.append(("weight", _rows(operands, weight.packed, tile.n // 4)))
        arguments = HopperSwapArguments(
            out=operands.address(out),
            m=m,
            n=n,
            k=a.shape[1] * a.itemsize,
            weight_rows=weight_rows,
            promote_steps=scales.promote_steps,
            scales=scales.structure,
            epilogue=ending.structure,
        )
        tiles = -(-n // (tile.n * tile.cluster)) * -(-m // tile.m)
        clusters = min(tiles, tile.clusters(multiprocessors))
        launch = Launch(
            self.build(tile, scales.variant.defines(), ending.defines),
            clusters * tile.cluster,
            (tile.threads, 1),
            self.bytes_of(tile),
            arguments,
            tuple(maps),
            tile.cluster,
        )
        return Multiplied(launch, out, operands.held)

    def max_registers(self, build: Build) -> int:
        """All of a multiprocessor's, shared by the threads of a block; two warpgroups that multiply then take more."""
        return min(65536 // self.threads(build) // 8 * 8, 255)


def _rows(operands: Operands, x: torch.Tensor, box_rows: int) -> TensorMap:
    """A contiguous tensor as rows of 128 bytes, which are not swizzled."""
    return TensorMap(operands.pointer(x), x.nbytes // _ROW, _ROW, _ROW, box_rows, _ROW, 0)


SPARSE_INT8 = Sm90Packed.of_sparse(
    "sm90_sparse_int8_gemm", "2:4 INT8 by wgmma.sp", (INT8,), ("sm_90a",), "IGMMA.SP.64x"
)
SPARSE_FP8 = Sm90Packed.of_sparse("sm90_sparse_fp8_gemm", "2:4 FP8 by wgmma.sp", (FP8,), ("sm_90a",), "QGMMA.SP.64x")
SPARSE_FLOATS = Sm90Packed.of_sparse(
    "sm90_sparse_16bit_gemm", "2:4 bf16 and fp16 by wgmma.sp", FLOATS_16, ("sm_90a",), "HGMMA.SP.64x"
)
W4A16 = Sm90Packed.of_int4(
    "sm90_w4a16_gemm",
    "INT4 weights with bf16 and fp16 by wgmma",
    FLOATS_16,
    ("sm_90a",),
    "HGMMA.64x",
    m_at_least=_MANY,
)
W4A8 = Sm90Packed.of_int4(
    "sm90_w4a8_gemm", "INT4 weights with INT8 by wgmma", (INT8,), ("sm_90a",), "IGMMA.64x", m_at_least=_MANY
)
W4AFP8 = Sm90Packed.of_int4("sm90_w4afp8_gemm", "INT4 weights with FP8 by wgmma", (FP8,), ("sm_90a",), "QGMMA.64x")
SPARSE = (SPARSE_INT8, SPARSE_FP8, SPARSE_FLOATS)
INT4 = (W4A16, W4A8, W4AFP8)
