"""Tiles of Hopper fit it and its matrix instruction, and the model of it picks one that suits the size."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels.matmuls.sm90_gemm import FP8_GEMM, INT8_GEMM, TILES, HopperTile
from quant.kernels.runtime import wgmma
from quant.kernels.runtime.architectures import ARCHITECTURES, Architecture
from tests.kernels.matmuls.test_mma_gemm_tiles import LAYERS, SIZES

HERE = ARCHITECTURES["sm_90a"]
#: promoted, block_scales: INT8 and FP8, with one scale a row or by block.
WAYS = [(False, False), (True, False), (True, True)]
REGISTERS = 232  # of a thread that multiplies, after setmaxnreg


def candidates(here: Architecture, *, promoted: bool, block_scales: bool) -> list[HopperTile]:
    return (FP8_GEMM if promoted else INT8_GEMM).tiles(here, fine_scales=block_scales)


def rule(
    m: int, n: int, k: int, tiles: Iterable[HopperTile], multiprocessors: int = HERE.multiprocessors
) -> HopperTile:
    """What is taken where nobody has measured."""
    return min(tiles, key=lambda tile: INT8_GEMM.clocks(tile, m, n, k, HERE, multiprocessors))


def blocks_of(tile: HopperTile, m: int, n: int) -> int:
    return -(-m // (tile.m * tile.cluster)) * -(-n // tile.n) * tile.cluster


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_a_tile_is_made_of_whole_warpgroups_and_wgmmas(tile: HopperTile) -> None:
    assert tile.n in wgmma.COLUMNS
    assert tile.group_m in (64, 128)
    assert tile.groups in (1, 2)
    assert tile.m == tile.groups * tile.group_m
    assert tile.stages >= 2
    assert tile.threads == 128 + tile.groups * 128 <= 1024
    assert tile.sums * tile.groups * 128 == tile.m * tile.n


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_the_blocks_of_a_cluster_share_whole_swizzled_rows(tile: HopperTile) -> None:
    assert tile.cluster in (1, 2)
    # The swizzle repeats every 8 rows of 128 bytes; a box has at most 256 rows.
    assert tile.n % (8 * tile.cluster) == 0
    assert max(tile.m, tile.n // tile.cluster) <= 256
    assert (tile.m + tile.n) * 128 % 1024 == 0


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_shared_memory_holds_stages_and_boxes_of_results_and_barriers(tile: HopperTile) -> None:
    stage = 128 * (tile.m + tile.n)
    boxes = tile.groups * 2 * (64 * 128)
    barriers = 2 * 8 * tile.stages
    assert tile.shared_bytes == tile.stages * stage + boxes + barriers
    assert tile.shared_bytes <= HERE.shared_bytes_per_block == 227 * 1024


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_blocks_that_lie_beside_each_other_fit_a_multiprocessor(tile: HopperTile) -> None:
    assert tile.resident in (1, 2)
    assert tile.resident * (tile.shared_bytes + 1024) <= HERE.shared_bytes_per_sm
    assert tile.resident * tile.threads <= HERE.max_threads_per_sm
    # What two blocks leave to a thread holds its sums, kept twice at worst, and as much beside.
    left = min(HERE.registers_per_sm // (tile.resident * tile.threads), 255)
    assert tile.resident == 1 or 2 * tile.sums + 48 <= left


def test_tiles_are_distinct_and_each_has_a_use() -> None:
    assert len(set(TILES)) == len({str(tile) for tile in TILES}) == len(TILES)
    assert set(TILES) == set(candidates(HERE, promoted=False, block_scales=False))
    assert str(HopperTile(32, 2, 128, 5, 1)) == "256x32x128, warpgroups 128x32, 5 stages"
    assert str(HopperTile(32, 1, 64, 5, 2)) == "64x32x128, warpgroups 64x32, 5 stages, clusters of 2"


def test_every_wgmma_that_is_written_has_a_tile() -> None:
    assert {tile.n for tile in TILES} == set(wgmma.COLUMNS)


def test_sums_fit_the_registers_of_a_thread() -> None:
    assert max(tile.sums for tile in candidates(HERE, promoted=False, block_scales=False)) <= REGISTERS - 40
    for block_scales in (False, True):
        promoted = candidates(HERE, promoted=True, block_scales=block_scales)
        assert promoted
        assert max(2 * tile.sums for tile in promoted) <= REGISTERS - 40


def test_a_tile_has_one_scale_of_the_weight_where_scales_are_by_block() -> None:
    def has_one(tile: HopperTile) -> bool:
        return all(first // 128 == (first + tile.n - 1) // 128 for first in range(0, 128 * tile.n, tile.n))

    by_block = candidates(HERE, promoted=True, block_scales=True)
    one_scale = [tile for tile in candidates(HERE, promoted=True, block_scales=False) if has_one(tile)]
    assert by_block == one_scale
    assert {tile.n for tile in by_block} == {n for n in wgmma.COLUMNS if 128 % n == 0}


@given(st.integers(0, 300 * 1024))
def test_candidates_are_those_that_fit(shared_bytes: int) -> None:
    few = HERE._replace(shared_bytes_per_block=shared_bytes)
    for promoted, block_scales in WAYS:
        every = candidates(HERE, promoted=promoted, block_scales=block_scales)
        found = candidates(few, promoted=promoted, block_scales=block_scales)
        assert found == [tile for tile in every if tile.shared_bytes <= shared_bytes]


@given(SIZES, SIZES, SIZES, st.sampled_from(TILES), st.integers(2, 200))
def test_more_work_never_takes_less_time(m: int, n: int, k: int, tile: HopperTile, multiprocessors: int) -> None:
    found = INT8_GEMM.clocks(tile, m, n, k, HERE, multiprocessors)
    assert found > 0
    for more in ((m + 999, n, k), (m, n + 999, k), (m, n, k + 999)):
        assert INT8_GEMM.clocks(tile, *more, HERE, multiprocessors) >= found
    assert INT8_GEMM.clocks(tile, m, n, k, HERE, multiprocessors + 10) <= found


@given(SIZES, SIZES, SIZES, st.sampled_from(TILES), st.integers(2, 200))
def test_no_tile_is_expected_to_multiply_faster_than_the_hardware(
    m: int, n: int, k: int, tile: HopperTile, multiprocessors: int
) -> None:
    peak = 2 * HERE.products_per_clock * multiprocessors
    assert INT8_GEMM.clocks(tile, m, n, k, HERE, multiprocessors) >= m * n * k / peak


@given(SIZES, SIZES, SIZES, st.integers(2, 200), st.sampled_from(WAYS))
def test_the_rule_always_answers_and_always_the_same(
    m: int, n: int, k: int, multiprocessors: int, way: tuple[bool, bool]
) -> None:
    tiles = candidates(HERE, promoted=way[0], block_scales=way[1])
    found = rule(m, n, k, iter(tiles), multiprocessors)
    assert found in tiles
    assert rule(m, n, k, tiles, multiprocessors) == found
    # What was not chosen does not matter.
    assert rule(m, n, k, [tile for tile in tiles if tile == found or tile.n > found.n], multiprocessors) == found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("m", [1, 2, 16])
def test_few_rows_take_narrow_tiles_or_at_least_most_multiprocessors(m: int, way: tuple[bool, bool]) -> None:
    tiles = candidates(HERE, promoted=way[0], block_scales=way[1])
    narrowest = min(tile.n for tile in tiles)
    for n, k in LAYERS:
        found = rule(m, n, k, tiles)
        assert found.n == narrowest or blocks_of(found, m, n) > HERE.multiprocessors / 2, (n, k)
        if m == 1:
            assert found.m == min(tile.m for tile in tiles), (n, k)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("m", [32_760, 75_600])
def test_a_video_takes_a_large_tile(m: int, way: tuple[bool, bool]) -> None:
    tiles = candidates(HERE, promoted=way[0], block_scales=way[1])
    for n, k in LAYERS:
        found = rule(m, n, k, tiles)
        assert found.m >= 128, (n, k)
        assert found.m * found.n >= 128 * 128, (n, k)


def test_what_a_cluster_shares_is_loaded_once() -> None:
    """Of two tiles that differ in nothing else, the one with clusters is not slower where there is work for all."""
    for alone, shared in product(TILES, TILES):
        if shared.cluster > 1 and alone == shared._replace(cluster=1):
            assert INT8_GEMM.clocks(shared, 32_768, 5120, 5120, HERE, 132) <= INT8_GEMM.clocks(
                alone, 32_768, 5120, 5120, HERE, 132
            )
