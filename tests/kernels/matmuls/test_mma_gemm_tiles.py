"""Tiles fit the hardware, and the model of it picks one that suits the size."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels.matmuls.mma_gemm import FP8_GEMM, INT8_GEMM, TILES, MmaTile
from quant.kernels.runtime.architectures import ARCHITECTURES, Architecture

SIZES = st.integers(1, 200_000)
HERE = list(ARCHITECTURES.values())
#: N and K of layers of Wan 1.3B and 14B, and of UMT5-XXL.
LAYERS = [(1536, 1536), (8960, 1536), (1536, 8960), (5120, 5120), (13824, 5120), (5120, 13824), (10240, 4096)]


def candidates(here: Architecture, *, promoted: bool) -> list[MmaTile]:
    return (FP8_GEMM if promoted else INT8_GEMM).tiles(here)


def rule(m: int, n: int, k: int, tiles: Iterable[MmaTile], here: Architecture, multiprocessors: int) -> MmaTile:
    """What is taken where nobody has measured."""
    return min(tiles, key=lambda tile: INT8_GEMM.clocks(tile, m, n, k, here, multiprocessors))


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_a_tile_is_made_of_whole_warps_and_mma_fragments(tile: MmaTile) -> None:
    assert tile.m % tile.warp_m == tile.n % tile.warp_n == 0
    assert tile.warp_m % 16 == 0
    assert tile.warp_n in (32, 64)
    assert tile.k in (64, 128)
    assert tile.stages >= 2
    assert tile.threads == 32 * (tile.m // tile.warp_m) * (tile.n // tile.warp_n) <= 1024
    assert tile.sums * tile.threads == tile.m * tile.n


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_shared_memory_holds_the_stages_and_later_the_staged_rows(tile: MmaTile) -> None:
    warps = (tile.m // tile.warp_m) * (tile.n // tile.warp_n)
    assert tile.shared_bytes == max(tile.stages * (tile.m * tile.k + tile.n * tile.k), warps * 16 * tile.warp_n * 4)


def test_tiles_are_distinct_and_each_has_a_use() -> None:
    assert len(set(TILES)) == len({str(tile) for tile in TILES}) == len(TILES)
    assert set(TILES) == {tile for each in HERE for tile in candidates(each, promoted=False)}
    assert str(MmaTile(128, 64, 32, 16, 8, 4)) == "128x64x32, warps 16x8, 4 stages"


@pytest.mark.parametrize("here", HERE, ids=lambda here: here.name)
def test_candidates_fit(here: Architecture) -> None:
    plain, promoted = candidates(here, promoted=False), candidates(here, promoted=True)
    assert promoted
    assert all(tile.shared_bytes <= here.shared_bytes_per_block for tile in plain)
    # Half of the 255 registers of a thread: the rest are addresses and fragments.
    assert max(tile.sums for tile in plain) <= 128
    assert max(2 * tile.sums for tile in promoted) <= 128
    assert promoted == [tile for tile in plain if tile in promoted]
    few = here._replace(shared_bytes_per_block=max(tile.shared_bytes for tile in plain) - 1)
    assert set(candidates(few, promoted=False)) < set(plain)


@given(SIZES, SIZES, SIZES, st.sampled_from(TILES), st.sampled_from(HERE), st.integers(1, 200))
def test_more_work_never_takes_less_time(
    m: int, n: int, k: int, tile: MmaTile, here: Architecture, multiprocessors: int
) -> None:
    found = INT8_GEMM.clocks(tile, m, n, k, here, multiprocessors)
    assert found > 0
    for more in ((m + 999, n, k), (m, n + 999, k), (m, n, k + 999)):
        assert INT8_GEMM.clocks(tile, *more, here, multiprocessors) >= found
    assert INT8_GEMM.clocks(tile, m, n, k, here, multiprocessors + 9) <= found


@given(SIZES, SIZES, SIZES, st.sampled_from(HERE), st.integers(1, 200), st.booleans())
def test_the_rule_always_answers_and_always_the_same(
    m: int, n: int, k: int, here: Architecture, multiprocessors: int, promoted: bool
) -> None:
    tiles = candidates(here, promoted=promoted)
    found = rule(m, n, k, iter(tiles), here, multiprocessors)
    assert found in tiles
    assert rule(m, n, k, tiles, here, multiprocessors) == found
    # What was not chosen does not matter.
    assert rule(m, n, k, [tile for tile in tiles if tile == found or tile.m > found.m], here, multiprocessors) == found


@pytest.mark.parametrize("here", HERE, ids=lambda here: here.name)
@pytest.mark.parametrize("promoted", [False, True])
@pytest.mark.parametrize("m", [1, 2, 16])
def test_few_rows_take_the_flattest_tile(m: int, promoted: bool, here: Architecture) -> None:
    tiles = candidates(here, promoted=promoted)
    for n, k in LAYERS:
        found = rule(m, n, k, tiles, here, here.multiprocessors)
        assert found.m == min(tile.m for tile in tiles), (n, k)


@pytest.mark.parametrize("here", HERE, ids=lambda here: here.name)
@pytest.mark.parametrize("promoted", [False, True])
def test_a_video_takes_a_large_tile(promoted: bool, here: Architecture) -> None:
    tiles = candidates(here, promoted=promoted)
    for n, k in LAYERS:
        found = rule(32_760, n, k, tiles, here, here.multiprocessors)
        assert found.m * found.n >= 128 * 128, (n, k)
        assert found.m >= 128, (n, k)
