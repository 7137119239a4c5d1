"""Tuning tries every tile that fits and keeps the fastest of each size."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quant.kernels import tuning
from quant.kernels.matmuls import mma_gemm, mma_packed, sm90_gemm, sm90_packed
from quant.kernels.matmuls.base import Tile
from quant.kernels.matmuls.mma_gemm import MmaTile
from quant.kernels.matmuls.mma_packed import PackedTile
from quant.kernels.matmuls.sm90_gemm import HopperTile
from quant.kernels.matmuls.sm90_packed import HopperPackedTile
from quant.kernels.matmuls.table import KERNELS, matmuls
from quant.kernels.runtime import cupy_launch
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.runtime.launch import Build, Launch
from quant.kernels.tile_tables import Entry, Table
from quant.kernels.tuning import Size, gpu_timer, tune
from tests.kernels.packed_cases import KINDS

MMA = [
    Size(mma_gemm.INT8_GEMM.name, 77, 64, 128),
    Size(mma_gemm.FP8_GEMM.name, 77, 64, 128),
    Size(mma_gemm.INT8_GEMM.name, 1, 640, 128),
]
WGMMA = [
    Size(sm90_gemm.INT8_GEMM.name, 77, 64, 128),
    Size(sm90_gemm.FP8_GEMM.name, 77, 64, 128),
    Size(sm90_gemm.INT8_GEMM.name, 1, 640, 128),
]
SWAPPED = [Size(name, 77, 64, 256) for name in KINDS]


@pytest.mark.parametrize(
    ("arch", "sizes"),
    [
        *((arch, MMA) for arch in ARCHITECTURES),
        ("sm_90a", WGMMA),
        ("sm_90a", [*WGMMA, MMA[0]]),
        *(("sm_90a", SWAPPED[start : start + 4]) for start in (0, 4, 8)),
    ],
)
def test_the_fastest_tile_of_each_size(arch: str, sizes: list[Size]) -> None:
    here = ARCHITECTURES[arch]
    possible = {size: list(matmuls()[size.kernel].tiles(here)) for size in sizes}
    fastest = {size: possible[size][place] for size, place in zip(sizes, (2, 0, -1, 1), strict=False)}
    tried: list[tuple[Size, Tile]] = []
    said: list[tuple[Size, dict[Tile, float]]] = []

    def seconds(size: Size, tile: Tile) -> float:
        tried.append((size, tile))
        return 0.5 if tile == fastest[size] else 1.0 / len(tried) + 0.5

    table = tune(sizes, here, "a GPU", seconds, on_size=lambda size, times: said.append((size, times)))
    assert tried == [(size, tile) for size in sizes for tile in possible[size]]
    assert [(size, list(times)) for size, times in said] == list(possible.items())
    assert all(times[fastest[size]] == 0.5 for size, times in said)
    assert table == Table("a GPU", tuple(Entry(*size, fastest[size]) for size in sizes))


@pytest.mark.parametrize(
    ("size", "arch", "most"),
    [
        (MMA[1], "sm_89", 128),
        (WGMMA[1], "sm_90a", 192),
        (Size(mma_packed.SPARSE_FP8.name, 77, 64, 256), "sm_89", 128),
        (Size(mma_packed.W4A8.name, 77, 64, 256), "sm_80", 128),
        (Size(sm90_packed.W4A8.name, 77, 64, 256), "sm_90a", 192),
    ],
)
def test_sums_that_are_kept_twice_try_only_tiles_that_fit_them(size: Size, arch: str, most: int) -> None:
    said: list[dict[Tile, float]] = []
    tune([size], ARCHITECTURES[arch], "", lambda *_: 1.0, on_size=lambda _, times: said.append(times))
    (times,) = said
    assert max(2 * tile.sums for tile in times) <= most


def test_a_table_of_nothing() -> None:
    assert tune([], ARCHITECTURES["sm_80"], "a GPU", lambda *_: 1.0).entries == ()


class Gpu:
    """What a timer asks of one, and its clock: every launch takes the next of `seconds`."""

    def __init__(self, seconds: Iterable[float]) -> None:
        self.prepared: list[Build] = []
        self.launched: list[Launch] = []
        self.seconds = iter(seconds)
        self.now = 0.0

    def prepare(self, builds: Iterable[Build], device: torch.device) -> None:
        self.prepared += builds

    def run(self, launch: Launch, device: torch.device) -> None:
        assert launch.build in self.prepared, "the time to compile would be measured"
        self.launched.append(launch)
        self.now += next(self.seconds)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    """With 10 multiprocessors, on which the first call takes long and others 1 to 10 ms."""
    found = Gpu([9.0, *(ms / 1e3 for ms in (3, 10, 1, 7, 2, 5, 9, 4, 8, 6))])

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = found.now

        def elapsed_time(self, end: Event) -> float:
            return (end.at - self.at) * 1e3

        def synchronize(self) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=10))
    monkeypatch.setattr(cupy_launch, "prepare", found.prepare)
    monkeypatch.setattr(cupy_launch, "run", found.run)
    monkeypatch.setattr(tuning, "_FLUSH_BYTES", 1000)
    return found


@pytest.mark.parametrize("size", [*MMA[:2], *WGMMA[:2], *SWAPPED], ids=lambda size: size.kernel)
def test_the_timer_runs_the_kernel_with_the_tile_and_takes_the_median(
    gpu: Gpu, size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[torch.dtype] = []
    for skeleton in {type(kernel) for kernel in matmuls().values()}:

        def noting(*arguments: Any, plan: Callable[..., Any] = skeleton.plan, **options: Any) -> Any:
            planned.append(arguments[1].dtype)
            return plan(*arguments, **options)

        monkeypatch.setattr(skeleton, "plan", noting)
    arch = next(arch for kernel in KERNELS if kernel.name == size.kernel for arch in kernel.architectures)
    tile = matmuls()[size.kernel].tiles(ARCHITECTURES[arch])[1]
    large = size._replace(m=2000, n=1000)
    assert gpu_timer(torch.device("cpu"))(large, tile) in (pytest.approx(5e-3), pytest.approx(6e-3))
    (launch,) = {id(each): each for each in gpu.launched}.values()
    assert launch.build.kernel == size.kernel
    assert launch.block == (tile.threads, 1)
    (dtype,) = planned
    assert (launch.arguments.m, launch.arguments.n, launch.arguments.k) == (*large[1:3], size.k * dtype.itemsize)
    macros = dict(launch.build.defines)
    assert matmuls()[size.kernel].tile_of(launch.build) == tile
    if isinstance(tile, MmaTile | PackedTile):
        assert (macros["TILE_M"], macros["TILE_N"]) == (tile.m, tile.n)
        assert launch.grid == -(-2000 // tile.m) * -(-1000 // tile.n)
    elif isinstance(tile, HopperTile):
        assert (macros["TILE_N"], macros["GROUP_M"]) == (tile.n, tile.group_m)
        assert launch.grid == 10 * tile.resident
    else:
        assert isinstance(tile, HopperPackedTile)
        assert (macros["TILE_M"], macros["GROUP_N"], macros["CLUSTER"]) == (tile.m, tile.group_n, tile.cluster)
        assert launch.grid % tile.cluster == 0
        assert tile.cluster <= launch.grid <= 10 * tile.resident  # blocks that stay
    assert len(gpu.launched) == 11
    if size.kernel in KINDS:
        assert dtype == KINDS[size.kernel].dtypes[0]
    else:
        assert dtype == (torch.int8 if "int8" in size.kernel else torch.float8_e4m3fn)
