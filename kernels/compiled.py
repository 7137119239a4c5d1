"""The CUDA kernels as implementations of the ops: a plan from the host side, launched on torch's stream."""

from __future__ import annotations

from functools import lru_cache, partial

import torch

from quant.kernels import tile_tables
from quant.kernels.arguments import Epilogue, Prologue
from quant.kernels.host import mma_gemm
from quant.kernels.host import quantize_rows as rows_host
from quant.kernels.runtime import cupy_launch
from quant.kernels.tiles import Tile


def quantize_rows(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, prologue: Prologue
) -> tuple[torch.Tensor, torch.Tensor]:
    """`ops.quantize_rows` by quantize_rows.cu."""
    planned = rows_host.plan(x, dtype, scale, prologue)
    cupy_launch.run(planned.launch, x.device)
    return planned.codes, planned.scale


def _scaled_mm(kernel: str, a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """`ops.scaled_mm` on a [M, K] and b [N, K] by a kernel made of mma_gemm.cuh."""
    (m, k), n = a.shape, b.shape[0]
    promoted = kernel == mma_gemm.FP8 or epilogue.has_block_scales(n, k)
    tile = _tile(kernel, m, n, k, cupy_launch.device_index(a.device), promoted)
    planned = mma_gemm.plan(kernel, a, b, epilogue, tile)
    cupy_launch.run(planned.launch, a.device)
    return planned.out


scaled_mm_int8 = partial(_scaled_mm, mma_gemm.INT8)
scaled_mm_fp8 = partial(_scaled_mm, mma_gemm.FP8)


@lru_cache(maxsize=4096)
def _tile(kernel: str, m: int, n: int, k: int, device: int, promoted: bool) -> Tile:
    """Remembered, because a model asks for the same few sizes at every step."""
    architecture = cupy_launch.device_architecture(device)
    multiprocessors = torch.cuda.get_device_properties(device).multi_processor_count
    return tile_tables.choose(kernel, m, n, k, architecture, multiprocessors, promoted=promoted).tile


def forget_tiles() -> None:
    """Looks tiles up again: a table has changed."""
    _tile.cache_clear()
