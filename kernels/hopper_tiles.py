"""How a matmul is cut up on Hopper: the candidates, and what a model of the hardware expects of each."""

from __future__ import annotations

from typing import NamedTuple

from quant.kernels.runtime.architectures import Architecture

_K = 128  # bytes of K in a stage
_BOX = 64 * 128  # bytes of a box of staged results; each mathematician has two
_BARRIERS = 16  # bytes of a stage's two


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
        """Of a block."""
        return 128 * (1 + self.groups)

    @property
    def shared_bytes(self) -> int:
        """Of a block: stages, staging, barriers."""
        return self.stages * ((self.m + self.n) * _K + _BARRIERS) + 2 * self.groups * _BOX

    @property
    def sums(self) -> int:
        """Accumulators of one thread."""
        return self.group_m * self.n // 128

    @property
    def resident(self) -> int:
        """Blocks beside each other on a multiprocessor: two narrow ones, whose steps wait more than they work."""
        return 2 if self.groups == 1 and self.n <= 64 else 1

    def clocks(self, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int) -> float:
        """What a model of the hardware expects of out [m, n] = a [m, k] b [n, k]^T, in clocks.

        A step takes what the multiplications of all blocks on a multiprocessor or their share of the L2 cache take,
        whichever is longer; a tile adds what nothing overlaps with.
        """
        clusters = -(-m // (self.m * self.cluster)) * -(-n // self.n)
        rounds = -(-clusters // max(multiprocessors * self.resident // self.cluster, 1))
        beside = min(self.resident, -(-clusters * self.cluster // multiprocessors))
        # wgmma multiplies twice as fast as the mma.sync that the architecture's figure is about.
        multiply = self.m * self.n * _K / (2 * architecture.products_per_clock)
        load = (min(self.m, m) + self.n / self.cluster) * _K / _L2_BYTES_A_CLOCK
        step = max(beside * multiply, beside * load, _SHORTEST_STEP)
        return rounds * (-(-k // _K) * step + _FILL + _FINISH * self.n)

    def __str__(self) -> str:
        cluster = ", clusters of 2" if self.cluster > 1 else ""
        return f"{self.m}x{self.n}x{_K}, warpgroups {self.group_m}x{self.n}, {self.stages} stages{cluster}"


#: Bytes that one multiprocessor gets from the L2 cache: about 5.5 TB/s for 132 of them at 1.75 GHz. A lead, not
#: measured here; so are the next three.
_L2_BYTES_A_CLOCK = 24
#: Clocks of a step that is limited by waiting and not by its work.
_SHORTEST_STEP = 128
#: Clocks of a tile beside its steps: until its first bytes are there, and for each column of its epilogue.
_FILL, _FINISH = 1000, 8

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
#: A mathematician has 232 registers; beside accumulators it needs addresses and the epilogue's values.
_MOST_SUMS = 192
_SCALE_BLOCK = 128


def candidates(architecture: Architecture, *, promoted: bool, block_scales: bool) -> list[HopperTile]:
    """The tiles that fit.

    Args:
        architecture: whose shared memory they must fit.
        promoted: are sums kept twice, as FP8's and those with block scales?
        block_scales: then a tile's columns share one scale.
    """
    most = _MOST_SUMS // (2 if promoted else 1)
    return [
        tile
        for tile in TILES
        if tile.sums <= most
        and tile.shared_bytes <= architecture.shared_bytes_per_block
        and not (block_scales and _SCALE_BLOCK % tile.n)
    ]
