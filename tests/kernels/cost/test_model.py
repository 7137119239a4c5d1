"""The model of the hardware, on numbers whose clocks are plain to see."""

from __future__ import annotations

from typing import Any

import pytest

from quant.kernels.cost.assumed import ASSUMED, value
from quant.kernels.cost.model import Counted, Work, clocks, issued
from quant.kernels.matmuls.table import matmuls
from quant.kernels.runtime.architectures import ARCHITECTURES

#: Ten blocks on five multiprocessors, one at a time, of 100 steps that multiply for 1000 clocks.
WORK = Work(
    blocks=10,
    places=5,
    together=1,
    warps=8,
    steps=100,
    products=1e6,
    rate=1e3,
    shared_bytes=0,
    port_bytes=0,
    l2_bytes=(0, 1),
    not_overlapped=0.0,
    fill=1500,
    finish=500,
)
COUNTED = Counted(100, 0, 700, 1000, 0, 3000)


def test_tiles_one_after_the_other() -> None:
    found = clocks(WORK, 5)
    assert found.total == 2 * (100 * 1000 + 1500 + 500)
    assert found.share == pytest.approx(200_000 / 204_000)
    assert found.step == 1000


def test_a_wave_that_is_not_full_takes_as_long() -> None:
    assert clocks(WORK._replace(blocks=6), 5).total == clocks(WORK, 5).total
    assert clocks(WORK._replace(blocks=11), 5).total == 3 * 102_000


def test_blocks_that_share_a_multiprocessor_hide_waiting_and_no_work() -> None:
    assert clocks(WORK._replace(together=2), 5).total == 2 * 100 * 1000 + 2000
    alone = clocks(WORK._replace(products=1e4), 5).total
    assert alone == 2 * (100 * value("shortest_step") + 2000)
    assert clocks(WORK._replace(products=1e4, together=2), 5).total == alone / 2


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"shared_bytes": 2000 * value("shared_bytes")}, "shared"),
        ({"port_bytes": 2000 * value("port_bytes")}, "port"),
        ({"l2_bytes": (4000, 2)}, "L2"),
        ({"products": 2e6}, "tensor"),
    ],
)
def test_a_step_takes_what_limits_it(change: dict[str, Any], limit: str) -> None:
    found = clocks(WORK._replace(**change), 5)
    assert max(found.bounds, key=lambda name: found.bounds[name]) == limit
    assert found.bounds[limit] == found.step == 2000


def test_what_is_not_overlapped_is_added() -> None:
    found = clocks(WORK._replace(shared_bytes=400 * value("shared_bytes"), not_overlapped=0.25), 5)
    assert found.step == 1000 + 0.25 * 400


def test_what_was_counted_takes_the_place_of_guesses() -> None:
    assert clocks(WORK, 5, COUNTED).total == 2 * (100 * 1000 + 1500 + 3000)
    assert clocks(WORK, 5, COUNTED._replace(clocks=1800)).step == 1800
    assert clocks(WORK, 5, COUNTED._replace(instructions=600)).bounds["issue"] == 600 * 8 / 4
    assert clocks(WORK, 5, COUNTED._replace(epilogue_instructions=4000)).epilogue == 8000


def test_slow_instructions_have_a_throughput_of_their_own() -> None:
    assert issued(100, 0, 8) == 200
    assert issued(100, 50, 8) == 50 * 8 * 32 / 16


def test_no_rows_take_no_clocks() -> None:
    found = clocks(WORK._replace(blocks=0), 5)
    assert (found.total, found.share) == (0, 0)


def test_every_assumption_has_its_source() -> None:
    assert all(each.source and each.unit and each.value > 0 for each in ASSUMED.values())


@pytest.mark.parametrize("name", list(matmuls()))
def test_no_tile_is_faster_than_the_tensor_cores(name: str) -> None:
    kernel = matmuls()[name]
    for arch in kernel.architectures:
        here = ARCHITECTURES[arch]
        for tile in kernel.tiles(here):
            found = clocks(kernel.work(tile, 4000, 3000, 2048, here, here.multiprocessors), here.multiprocessors)
            assert 0 < found.share < 1
