"""Finding the fastest tile for sizes that matter, by running every one that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.host.operands import Multiplied
from quant.kernels.matmuls.base import Tile
from quant.kernels.matmuls.random_operands import values
from quant.kernels.matmuls.table import matmuls
from quant.kernels.numerics import CODES
from quant.kernels.runtime import cupy_launch
from quant.kernels.runtime.architectures import Architecture
from quant.kernels.tile_tables import Entry, Table

#: Written between two measurements, so that none finds the other's operands in the L2 cache (50 MB on Hopper).
_FLUSH_BYTES = 256 * 2**20
_ROUNDS = 11


class Size(NamedTuple):
    """A matmul to tune: out [m, n] = a [m, k] b [n, k]^T by a kernel."""

    kernel: str
    m: int
    n: int
    k: int


#: The seconds of one call.
Timer = Callable[[Size, Tile], float]


def tune(
    sizes: Iterable[Size],
    architecture: Architecture,
    gpu: str,
    seconds: Timer,
    *,
    on_size: Callable[[Size, dict[Tile, float]], None] = lambda size, times: None,
) -> Table:
    """The fastest tile for each size.

    Args:
        sizes: what to tune; plain scales and a bf16 result.
        architecture: its candidates are tried.
        gpu: its name, for the table.
        seconds: measures one.
        on_size: called after each size with the seconds of every tile.
    """
    entries = []
    for size in sizes:
        times = {tile: seconds(size, tile) for tile in matmuls()[size.kernel].tiles(architecture)}
        on_size(size, times)
        entries.append(Entry(*size, min(times, key=lambda tile: times[tile])))
    return Table(gpu, tuple(entries))


def gpu_timer(device: torch.device) -> Timer:
    """Measures on a GPU: random codes, a cold L2 cache, the median of several calls by events."""
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    flush = torch.empty(_FLUSH_BYTES, dtype=torch.int8, device=device)

    def seconds(size: Size, tile: Tile) -> float:
        launched = planned(size, tile, device, multiprocessors)  # holds the tensors
        cupy_launch.prepare([launched.launch.build], device)
        taken: list[float] = []
        for _ in range(_ROUNDS):
            flush.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            begin.record()
            cupy_launch.run(launched.launch, device)
            end.record()
            end.synchronize()
            taken.append(float(begin.elapsed_time(end)) / 1e3)
        return sorted(taken[1:])[(_ROUNDS - 1) // 2]

    return seconds


def planned(size: Size, tile: Tile, device: torch.device, multiprocessors: int) -> Multiplied:
    """A launch on `device` of random operands, with plain scales and a bf16 result."""
    kernel, (m, n, k) = matmuls()[size.kernel], size[1:]
    a = values(m, k, kernel.dtypes[0], device)
    a_scale = torch.rand(m, 1, device=device) if a.dtype in CODES else torch.ones(1, 1, device=device)
    weight, b_scale = kernel.random_weight(n, k, device)
    return kernel.plan(a, weight, Epilogue(a_scale, b_scale), tile, multiprocessors=multiprocessors)
