"""The tiles of kernels with the weight as left operand: what the sources demand of them, and what the model prefers."""

from __future__ import annotations

import pytest

from quant.kernels import hopper_swap_tiles, swap_tiles
from quant.kernels.hopper_swap_tiles import HopperPackedTile
from quant.kernels.runtime import wgmma
from quant.kernels.runtime.architectures import ARCHITECTURES, Architecture
from quant.kernels.swap_kinds import HOPPER_SPARSE_INT8, HOPPER_W4A16, KINDS, SPARSE_INT8, W4A8, W4A16, SwapKind
from quant.kernels.swap_tiles import PackedTile
from quant.kernels.tile_tables import choose

MMA = [(kind, arch) for kind in KINDS.values() if not kind.hopper for arch in ARCHITECTURES.values()]
HOPPER = [kind for kind in KINDS.values() if kind.hopper]
SM_80, SM_90 = ARCHITECTURES["sm_80"], ARCHITECTURES["sm_90a"]


@pytest.mark.parametrize(("kind", "arch"), MMA, ids=lambda value: value.name)
def test_what_the_source_asserts_holds_for_every_candidate(kind: SwapKind, arch: Architecture) -> None:
    found = swap_tiles.candidates(arch, kind)
    assert found
    for tile in found:
        assert tile.warp_n in (32, 64)
        assert tile.n % tile.warp_n == tile.m % tile.warp_m == tile.slabs % tile.warps_k == tile.warp_m % 8 == 0
        assert tile.stages >= 2
        assert tile.threads % (tile.slabs * 64 * kind.in_bytes // 16) == 0  # a thread copies one column
        assert tile.threads <= 1024
        assert tile.sums * (2 if kind.promoted else 1) <= 128


@pytest.mark.parametrize("kind", HOPPER, ids=lambda kind: kind.name)
def test_what_the_source_asserts_holds_for_every_candidate_of_hopper(kind: SwapKind) -> None:
    found = hopper_swap_tiles.candidates(SM_90, kind)
    assert found
    for tile in found:
        assert tile.m in wgmma.COLUMNS
        assert tile.m % 32 == tile.m // tile.cluster % 8 == 0
        assert tile.group_n in (64, 128)
        # Boxes of the copy engine have at most 256 rows.
        assert max(tile.m // tile.cluster, tile.n, tile.n // 4) <= 256
        assert tile.sums * (2 if kind.promoted else 1) <= 192


def test_shared_memory_by_hand() -> None:
    """128 channels and 64 tokens: 2 slabs of tokens, of kept values and of metadata; or of codes of four bits."""
    tile = PackedTile(128, 64, 2, 64, 32, 1, 3)
    assert tile.stage_bytes(KINDS[SPARSE_INT8]) == 64 * 128 + 128 * 64 + 2 * 8 * 128
    assert tile.stage_bytes(KINDS[W4A16]) == 64 * 256 + 128 * 64
    assert tile.shared_bytes(KINDS[W4A8]) == 3 * (64 * 128 + 128 * 64)
    assert PackedTile(64, 64, 1, 64, 32, 1, 2).shared_bytes(KINDS[W4A8]) == 2 * (64 * 64 + 64 * 32)
    wide = HopperPackedTile(64, 2, 64, 3, 1)
    assert wide.weight_bytes(KINDS[HOPPER_SPARSE_INT8]) == 128 * 64 + 2 * 1024
    assert wide.weight_bytes(KINDS[HOPPER_W4A16]) == 128 * 32
    assert wide.shared_bytes(KINDS[HOPPER_W4A16]) == 3 * (64 * 128 + 128 * 32 + 16) + 2 * 32 * 68 * 4


@pytest.mark.parametrize("arch", [SM_80, SM_90], ids=lambda arch: arch.name)
@pytest.mark.parametrize("m", [1, 8, 16])
def test_few_tokens_take_a_tile_whose_warps_share_k(m: int, arch: Architecture) -> None:
    tile = choose(W4A16, m, 5120, 5120, arch, arch.multiprocessors).tile
    assert isinstance(tile, PackedTile)
    assert tile.warps_k > 1
    assert tile.m <= 32


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_many_tokens_take_a_large_tile(kind: SwapKind) -> None:
    arch = SM_90 if kind.hopper else ARCHITECTURES["sm_89"]
    tile = choose(kind.name, 32_760, 5120, 5120, arch, arch.multiprocessors).tile
    family = hopper_swap_tiles if kind.hopper else swap_tiles
    assert tile.m * tile.n == max(each.m * each.n for each in family.candidates(arch, kind))


def test_more_work_never_takes_less_time() -> None:
    for kind in KINDS.values():
        family, arch = (hopper_swap_tiles, SM_90) if kind.hopper else (swap_tiles, ARCHITECTURES["sm_89"])
        for tile in family.candidates(arch, kind):
            times = [
                tile.clocks(m, n, k, arch, 100, kind)
                for m, n, k in ((100, 512, 512), (100, 512, 4096), (9000, 512, 4096), (9000, 8192, 4096))
            ]
            assert times == sorted(times)
