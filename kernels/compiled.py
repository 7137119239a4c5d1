"""The CUDA kernels as implementations of the ops: a plan from the kernel, launched on torch's stream."""

from __future__ import annotations

from functools import cache, lru_cache, partial
from typing import Any

import torch

from quant.kernels import tile_tables
from quant.kernels.limits import Implementation
from quant.kernels.matmuls.base import Gpu, Kernel
from quant.kernels.runtime import cupy_launch


@cache
def implementation(kernel: Kernel) -> Implementation:
    """A kernel as what `dispatch` chooses from."""
    return Implementation(kernel.name, kernel.op, (kernel.limits,), partial(run, kernel), compiled=True)


def run(kernel: Kernel, *operands: Any, **named: Any) -> Any:
    """What the kernel's op returns, by the arguments of its reference, the first of which is a tensor."""
    device = operands[0].device
    planned = kernel.planned(_gpu(cupy_launch.device_index(device)), *operands, **named)
    cupy_launch.run(planned.launch, device)
    return planned.result


@cache
def _gpu(device: int) -> Gpu:
    """Tiles are remembered, because a model asks for the same few sizes at every step."""
    multiprocessors = int(torch.cuda.get_device_properties(device).multi_processor_count)
    gpu = tile_tables.gpu(cupy_launch.device_architecture(device), multiprocessors)
    return gpu._replace(tile=lru_cache(maxsize=4096)(gpu.tile))


def forget_tiles() -> None:
    """Looks tiles up again: a table has changed."""
    _gpu.cache_clear()
