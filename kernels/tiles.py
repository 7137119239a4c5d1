"""How a matmul is cut into blocks and warps on Ampere and Ada: the candidates, and what a model expects of each."""

from __future__ import annotations

from typing import NamedTuple

from quant.kernels.runtime.architectures import Architecture


class Tile(NamedTuple):
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
        """Of a block."""
        return self.m // self.warp_m * (self.n // self.warp_n) * 32

    @property
    def shared_bytes(self) -> int:
        """Of a block: the stages, over which the epilogue later lays 16 staged rows of each warp."""
        staging = self.threads // 32 * 16 * self.warp_n * 4
        return max(self.stages * (self.m + self.n) * self.k, staging)

    @property
    def sums(self) -> int:
        """Accumulators of one thread."""
        return self.warp_m * self.warp_n // 32

    def clocks(self, m: int, n: int, k: int, architecture: Architecture, multiprocessors: int) -> float:
        """What a model of the hardware expects of out [m, n] = a [m, k] b [n, k]^T, in clocks.

        A multiprocessor works on its tiles one after the other as far as its units are concerned. A step of a tile
        takes what its multiplications or its shared memory traffic take, whichever is longer, and a part of the
        shorter; blocks that fit beside each other hide each other's fill.
        """
        blocks = -(-m // self.m) * -(-n // self.n)
        multiply = self.m * self.n * self.k / architecture.products_per_clock
        warps = self.threads // 32
        read = warps * (self.warp_m + self.warp_n) * self.k + (self.m + self.n) * self.k
        longer, shorter = sorted((multiply, read / _SHARED_BYTES_A_CLOCK), reverse=True)
        registers = self.threads * (self.sums + _REGISTERS_BESIDE_SUMS)
        beside = min(
            architecture.shared_bytes_per_sm // (self.shared_bytes + 1024), architecture.registers_per_sm // registers
        )
        rounds = -(-blocks // multiprocessors)
        steps = rounds * -(-k // self.k) * (longer + shorter * _NOT_OVERLAPPED)
        return steps + -(-rounds // max(beside, 1)) * _FILL

    def __str__(self) -> str:
        return f"{self.m}x{self.n}x{self.k}, warps {self.warp_m}x{self.warp_n}, {self.stages} stages"


#: Tall ones for video tokens, flat ones for text tokens and single rows.
TILES = (
    Tile(256, 128, 64, 64, 64, 3),
    Tile(128, 256, 64, 64, 64, 3),
    Tile(128, 128, 64, 64, 32, 4),
    Tile(128, 128, 64, 64, 32, 3),
    Tile(128, 64, 64, 32, 32, 4),
    Tile(64, 128, 64, 32, 32, 4),
    Tile(64, 64, 128, 32, 32, 3),
    Tile(32, 64, 128, 16, 32, 4),
    Tile(16, 64, 128, 16, 32, 4),
)
#: A thread has 255 registers; beside accumulators it needs addresses and fragments.
_MOST_SUMS = 128
_REGISTERS_BESIDE_SUMS = 62
_SHARED_BYTES_A_CLOCK = 128
#: Of two things that go on at one time, the part of the shorter that is waited for all the same: a guess, not measured.
_NOT_OVERLAPPED = 0.25
#: Clocks until the first step of a block has arrived and after its last one, while nothing is multiplied: a guess too.
_FILL = 2000


def candidates(architecture: Architecture, *, promoted: bool) -> list[Tile]:
    """The tiles that fit.

    Args:
        architecture: whose shared memory they must fit.
        promoted: are sums kept twice, as FP8's and those with block scales?
    """
    most = _MOST_SUMS // (2 if promoted else 1)
    return [tile for tile in TILES if tile.sums <= most and tile.shared_bytes <= architecture.shared_bytes_per_block]
