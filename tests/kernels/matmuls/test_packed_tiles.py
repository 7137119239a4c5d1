"""The tiles of kernels with the weight as left operand: what the sources demand of them, and what the model prefers."""

from __future__ import annotations

from typing import Any

import pytest

from quant.kernels.matmuls import mma_packed, sm90_packed
from quant.kernels.matmuls.mma_packed import PackedTile
from quant.kernels.matmuls.packed import Packed
from quant.kernels.matmuls.sm90_packed import HopperPackedTile, Sm90Packed
from quant.kernels.runtime import wgmma
from quant.kernels.runtime.architectures import ARCHITECTURES, Architecture
from quant.kernels.tile_tables import choose
from tests.kernels.packed_cases import KINDS

W4A16 = mma_packed.W4A16.name

MMA = [(kind, arch) for kind in KINDS.values() if not isinstance(kind, Sm90Packed) for arch in ARCHITECTURES.values()]
HOPPER = [kind for kind in KINDS.values() if isinstance(kind, Sm90Packed)]
SM_80, SM_90 = ARCHITECTURES["sm_80"], ARCHITECTURES["sm_90a"]


@pytest.mark.parametrize(("kind", "arch"), MMA, ids=lambda value: value.name)
def test_what_the_source_asserts_holds_for_every_candidate(kind: Packed[Any], arch: Architecture) -> None:
    found = kind.tiles(arch)
    assert found
    for tile in found:
        assert tile.warp_n in (32, 64)
        assert tile.n % tile.warp_n == tile.m % tile.warp_m == tile.slabs % tile.warps_k == tile.warp_m % 8 == 0
        assert tile.stages >= 2
        assert tile.threads % (tile.slabs * 64 * kind.in_bytes // 16) == 0  # a thread copies one column
        assert tile.threads <= 1024
        assert tile.sums * kind.sums_kept() <= 128


@pytest.mark.parametrize("kind", HOPPER, ids=lambda kind: kind.name)
def test_what_the_source_asserts_holds_for_every_candidate_of_hopper(kind: Packed[Any]) -> None:
    found = kind.tiles(SM_90)
    assert found
    for tile in found:
        assert tile.m in wgmma.COLUMNS
        assert tile.m % 32 == tile.m // tile.cluster % 8 == 0
        assert tile.group_n in (64, 128)
        # Boxes of the copy engine have at most 256 rows.
        assert max(tile.m // tile.cluster, tile.n, tile.n // 4) <= 256
        assert tile.sums * kind.sums_kept() <= 192


def test_shared_memory_by_hand() -> None:
    """128 channels and 64 tokens: 2 slabs of tokens, of kept values and of metadata; or of codes of four bits."""
    tile = PackedTile(128, 64, 2, 64, 32, 1, 3)
    assert mma_packed.SPARSE_INT8.stage_bytes(tile) == 64 * 128 + 128 * 64 + 2 * 8 * 128
    assert mma_packed.W4A16.stage_bytes(tile) == 64 * 256 + 128 * 64
    assert mma_packed.W4A8.bytes_of(tile) == 3 * (64 * 128 + 128 * 64)
    assert mma_packed.W4A8.bytes_of(PackedTile(64, 64, 1, 64, 32, 1, 2)) == 2 * (64 * 64 + 64 * 32)
    wide = HopperPackedTile(64, 2, 64, 3, 1)
    assert sm90_packed.SPARSE_INT8.step_bytes(wide) == 128 * 64 + 2 * 1024
    assert sm90_packed.W4A16.step_bytes(wide) == 128 * 32
    assert sm90_packed.W4A16.bytes_of(wide) == 3 * (64 * 128 + 128 * 32 + 16) + 2 * 32 * 68 * 4


@pytest.mark.parametrize("arch", [SM_80, SM_90], ids=lambda arch: arch.name)
@pytest.mark.parametrize("m", [1, 8, 16])
def test_few_tokens_take_a_tile_whose_warps_share_k(m: int, arch: Architecture) -> None:
    tile = choose(W4A16, m, 5120, 5120, arch, arch.multiprocessors).tile
    assert isinstance(tile, PackedTile)
    assert tile.warps_k > 1
    assert tile.m <= 32


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_many_tokens_take_a_large_tile(kind: Packed[Any]) -> None:
    arch = SM_90 if isinstance(kind, Sm90Packed) else ARCHITECTURES["sm_89"]
    tile = choose(kind.name, 32_760, 5120, 5120, arch, arch.multiprocessors).tile
    assert tile.m * tile.n == max(each.m * each.n for each in kind.tiles(arch))


def test_more_work_never_takes_less_time() -> None:
    for kind in KINDS.values():
        arch = SM_90 if isinstance(kind, Sm90Packed) else ARCHITECTURES["sm_89"]
        for tile in kind.tiles(arch):
            times = [
                kind.clocks(tile, m, n, k, arch, 100)
                for m, n, k in ((100, 512, 512), (100, 512, 4096), (9000, 512, 4096), (9000, 8192, 4096))
            ]
            assert times == sorted(times)
