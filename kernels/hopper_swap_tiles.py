"""How a matmul with the weight as left operand is cut up on Hopper: candidates, and what a model expects of each."""

from __future__ import annotations

from typing import NamedTuple

from quant.kernels.runtime.architectures import Architecture
from quant.kernels.swap_kinds import SwapKind

_K = 128  # bytes of a token's row in a stage
_STAGING = 32 * (64 + 4) * 4  # bytes in which a mathematician turns tokens and channels
_BARRIERS = 16  # bytes of a stage's two


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
        """Of a block."""
        return 128 * (1 + self.groups)

    @property
    def sums(self) -> int:
        """Accumulators of one thread."""
        return self.group_n * self.m // 128

    @property
    def resident(self) -> int:
        """Blocks beside each other on a multiprocessor: two narrow ones, whose steps wait more than they work."""
        return 2 if self.groups == 1 and self.m <= 64 else 1

    def clusters(self, multiprocessors: int) -> int:
        """Those that are on a GPU at one time.

        A cluster lies within a GPC. Pairs fill all of them; of larger ones only those that 16 multiprocessors hold are
        counted on, though some GPCs have 18: one cluster that had to wait for another would take twice the time.
        """
        if self.cluster <= 2:
            return max(multiprocessors * self.resident // self.cluster, 1)
        return max(multiprocessors // _GPC * (_GPC // self.cluster) * self.resident, 1)

    def weight_bytes(self, kind: SwapKind) -> int:
        """Of a step."""
        return self.n // 16 * (kind.weight_bytes + kind.metadata_bytes) * 2 // kind.in_bytes

    def shared_bytes(self, kind: SwapKind) -> int:
        """Of a block: stages, barriers, staging."""
        return self.stages * (self.m * _K + self.weight_bytes(kind) + _BARRIERS) + self.groups * _STAGING

    def clocks(self, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int, kind: SwapKind) -> float:
        """What a model of the hardware expects of out [m, n] = a [m, k] weight [n, k]^T, in clocks.

        As `HopperTile.clocks`; and a step takes what its operands take from shared memory: kernel_layouts' account of
        128 bytes a clock, of which every instruction of a warpgroup reads all its tokens.
        """
        clusters = -(-n // (self.n * self.cluster)) * -(-m // self.m)
        rounds = -(-clusters // self.clusters(multiprocessors))
        beside = min(self.resident, -(-clusters * self.cluster // multiprocessors))
        columns = _K // kind.in_bytes
        # wgmma multiplies twice as fast as the mma.sync that the architecture's figure is about.
        multiply = self.m * self.n * columns / (2 * architecture.products_per_clock * kind.rate)
        read = (self.n // 64 * self.m * _K + self.weight_bytes(kind)) / _SHARED_BYTES_A_CLOCK
        load = (min(self.m, m) * _K / self.cluster + self.weight_bytes(kind)) / _L2_BYTES_A_CLOCK
        step = max(beside * multiply, beside * read, beside * load, _SHORTEST_STEP)
        return rounds * (-(-k // columns) * step + _FILL + _FINISH * self.m)

    def __str__(self) -> str:
        cluster = f", clusters of {self.cluster}" if self.cluster > 1 else ""
        return f"{self.m}x{self.n}x{_K} bytes, warpgroups {self.m}x{self.group_n}, {self.stages} stages{cluster}"


_GPC = 16  # multiprocessors
_SHARED_BYTES_A_CLOCK = 128
#: As hopper_tiles has them; none of them is measured.
_L2_BYTES_A_CLOCK = 24
_SHORTEST_STEP = 128
_FILL, _FINISH = 1000, 8

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
#: A mathematician has 232 registers; beside accumulators it needs addresses, fragments and the epilogue's values.
_MOST_SUMS = 192


def candidates(architecture: Architecture, kind: SwapKind, *, small_groups: bool = False) -> list[HopperPackedTile]:
    """The tiles that fit.

    Args:
        architecture: whose shared memory they must fit.
        kind: the kernel.
        small_groups: are there several scales of one row in a step? They take registers.
    """
    most = (_MOST_SUMS - (64 if small_groups else 0)) // (2 if kind.promoted else 1)
    return [
        tile for tile in TILES if tile.sums <= most and tile.shared_bytes(kind) <= architecture.shared_bytes_per_block
    ]
