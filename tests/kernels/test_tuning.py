"""Tuning tries every tile that fits and keeps the fastest of each size."""

from __future__ import annotations

import pytest

from quant.kernels.host import mma_gemm
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.tile_tables import Entry, Table
from quant.kernels.tiles import Tile, candidates
from quant.kernels.tuning import Size, tune

SIZES = [Size(mma_gemm.INT8, 77, 64, 128), Size(mma_gemm.FP8, 77, 64, 128), Size(mma_gemm.INT8, 1, 640, 128)]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_fastest_tile_of_each_size(arch: str) -> None:
    here = ARCHITECTURES[arch]
    possible = {size: candidates(here, promoted=size.kernel == mma_gemm.FP8) for size in SIZES}
    fastest = {size: possible[size][place] for size, place in zip(SIZES, (2, 0, -1), strict=True)}
    tried: list[tuple[Size, Tile]] = []
    said: list[tuple[Size, dict[Tile, float]]] = []

    def seconds(size: Size, tile: Tile) -> float:
        tried.append((size, tile))
        return 0.5 if tile == fastest[size] else 1.0 / len(tried) + 0.5

    table = tune(SIZES, here, "a GPU", seconds, told=lambda size, times: said.append((size, times)))
    assert tried == [(size, tile) for size in SIZES for tile in possible[size]]
    assert [(size, list(times)) for size, times in said] == list(possible.items())
    assert all(times[fastest[size]] == 0.5 for size, times in said)
    assert table == Table("a GPU", tuple(Entry(*size, fastest[size]) for size in SIZES))


def test_fp8_tries_only_tiles_whose_sums_fit_twice() -> None:
    said: list[dict[Tile, float]] = []
    tune(SIZES[1:2], ARCHITECTURES["sm_89"], "", lambda *_: 1.0, told=lambda _, times: said.append(times))
    (times,) = said
    assert max(2 * tile.sums for tile in times) <= 128


def test_a_table_of_nothing() -> None:
    assert tune([], ARCHITECTURES["sm_80"], "a GPU", lambda *_: 1.0).entries == ()
