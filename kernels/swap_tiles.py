"""How a matmul with the weight as left operand is cut up on Ampere and Ada: candidates, and what a model expects."""

from __future__ import annotations

from typing import NamedTuple

from quant.kernels.runtime.architectures import Architecture
from quant.kernels.swap_kinds import SwapKind

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
        """Of a block."""
        return self.n // self.warp_n * (self.m // self.warp_m) * self.warps_k * 32

    @property
    def sums(self) -> int:
        """Accumulators of one thread."""
        return self.warp_m * self.warp_n // 32

    def stage_bytes(self, kind: SwapKind) -> int:
        """Of a step: tokens, weight, metadata."""
        weight = self.n // 16 * (kind.weight_bytes + kind.metadata_bytes)
        return self.slabs * (self.m * SLAB * kind.in_bytes + weight)

    def shared_bytes(self, kind: SwapKind) -> int:
        """Of a block: the stages, over which the epilogue later lays 8 staged tokens of each warp."""
        return max(self.stages * self.stage_bytes(kind), self.threads // 32 * 8 * (self.warp_n + 4) * 4)

    def clocks(self, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int, kind: SwapKind) -> float:
        """What a model of the hardware expects of out [m, n] = a [m, k] weight [n, k]^T, in clocks.

        As `Tile.clocks`; and a step takes at least what its bytes take from the L2 cache.
        """
        blocks = -(-m // self.m) * -(-n // self.n)
        step_k = self.slabs * SLAB
        multiply = self.m * self.n * step_k / (architecture.products_per_clock * kind.rate)
        # Tokens are read by the warps of all channels, the weight by those of all tokens; both are written once.
        tokens = self.m * step_k * kind.in_bytes
        weight = self.stage_bytes(kind) - tokens
        read = tokens * (1 + self.n // self.warp_n) + weight * (1 + self.m // self.warp_m)
        load = (min(self.m, m) * step_k * kind.in_bytes + weight) / _L2_BYTES_A_CLOCK
        longest, *others = sorted((multiply, read / _SHARED_BYTES_A_CLOCK, load), reverse=True)
        twice = 2 if kind.promoted else 1
        registers = self.threads * (self.sums * twice + _REGISTERS_BESIDE_SUMS)
        beside = min(
            architecture.shared_bytes_per_sm // (self.shared_bytes(kind) + 1024),
            architecture.registers_per_sm // registers,
        )
        rounds = -(-blocks // multiprocessors)
        steps = rounds * -(-k // step_k) * (longest + sum(others) * _NOT_OVERLAPPED)
        return steps + -(-rounds // max(beside, 1)) * _FILL

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
#: A thread has 255 registers; beside accumulators it needs addresses and fragments. Half as many sums where they are
#: kept twice, and where the fragments of 4-bit weights have to be made.
_MOST_SUMS = 128
_REGISTERS_BESIDE_SUMS = 80
_SHARED_BYTES_A_CLOCK = 128
#: Of the L2 cache, for one multiprocessor: an A100's 5.1 TB/s for 108 of them at 1.41 GHz. A lead, not measured here.
_L2_BYTES_A_CLOCK = 32
#: Of things that go on at one time, the part of the shorter that is waited for all the same: a guess, not measured.
_NOT_OVERLAPPED = 0.25
#: Clocks until the first step of a block has arrived and after its last one, while nothing is multiplied: a guess too.
_FILL = 2000


def candidates(architecture: Architecture, kind: SwapKind, *, small_groups: bool = False) -> list[PackedTile]:
    """The tiles that fit an architecture; also with several scales of a row in a step, if those are `small_groups`."""
    most = _MOST_SUMS // (2 if kind.promoted or not kind.sparse else 1)
    return [
        tile for tile in TILES if tile.sums <= most and tile.shared_bytes(kind) <= architecture.shared_bytes_per_block
    ]
