"""The CUDA kernels as implementations of the ops: a plan from the host side, launched on torch's stream."""

from __future__ import annotations

from functools import cache, lru_cache, partial

import torch

from quant.kernels import tile_tables
from quant.kernels.arguments import SCALE_BLOCK, Epilogue, Int4Weight, Prologue
from quant.kernels.hopper_swap_tiles import HopperPackedTile
from quant.kernels.hopper_tiles import HopperTile
from quant.kernels.host.operands import Multiplied
from quant.kernels.matmuls import mma_gemm, mma_packed, sm90_gemm, sm90_packed
from quant.kernels.matmuls import quantize_rows as rows_host
from quant.kernels.matmuls.packed import Weight
from quant.kernels.runtime import cupy_launch
from quant.kernels.swap_tiles import PackedTile
from quant.kernels.tile_tables import AnyTile
from quant.kernels.tiles import Tile


def quantize_rows(
    x: torch.Tensor, dtype: torch.dtype, scale: torch.Tensor | None, prologue: Prologue
) -> tuple[torch.Tensor, torch.Tensor]:
    """`ops.quantize_rows` by quantize_rows.cu."""
    planned = rows_host.plan(x, dtype, scale, prologue)
    cupy_launch.run(planned.launch, x.device)
    return planned.codes, planned.scale


def _by_mma(kernel: str, a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """`ops.scaled_mm` on a [M, K] and b [N, K] by a kernel made of mma_gemm.cuh."""
    tile = _tile(kernel, a, b, epilogue)
    assert isinstance(tile, Tile)
    return _run(mma_gemm.plan(kernel, a, b, epilogue, tile), a.device)


def _by_wgmma(kernel: str, a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """`ops.scaled_mm` on a [M, K] and b [N, K] by a kernel made of sm90_gemm.cuh."""
    tile = _tile(kernel, a, b, epilogue)
    assert isinstance(tile, HopperTile)
    multiprocessors = _multiprocessors(cupy_launch.device_index(a.device))
    return _run(sm90_gemm.plan(kernel, a, b, epilogue, tile, multiprocessors=multiprocessors), a.device)


def by_packed(kernel: str, a: torch.Tensor, weight: Weight, epilogue: Epilogue) -> torch.Tensor:
    """`ops.int4_mm` or `ops.sparse_scaled_mm` on a [M, K] by a kernel of `swap_kinds`."""
    (m, k), device = a.shape, cupy_launch.device_index(a.device)
    fine = isinstance(weight, Int4Weight) and weight.groups > 1 and k // weight.groups < SCALE_BLOCK
    tile = _known_tile(kernel, m, weight.n, k, device, fine)
    if isinstance(tile, HopperPackedTile):
        multiprocessors = _multiprocessors(device)
        return _run(sm90_packed.plan(kernel, a, weight, epilogue, tile, multiprocessors=multiprocessors), a.device)
    assert isinstance(tile, PackedTile)
    return _run(mma_packed.plan(kernel, a, weight, epilogue, tile), a.device)


scaled_mm_int8 = partial(_by_mma, mma_gemm.INT8)
scaled_mm_fp8 = partial(_by_mma, mma_gemm.FP8)
scaled_mm_int8_sm90 = partial(_by_wgmma, sm90_gemm.INT8)
scaled_mm_fp8_sm90 = partial(_by_wgmma, sm90_gemm.FP8)


def _run(planned: Multiplied, device: torch.device) -> torch.Tensor:
    cupy_launch.run(planned.launch, device)
    return planned.out


def _tile(kernel: str, a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> AnyTile:
    (m, k), n = a.shape, b.shape[0]
    return _known_tile(kernel, m, n, k, cupy_launch.device_index(a.device), epilogue.has_block_scales(n, k))


@lru_cache(maxsize=4096)
def _known_tile(kernel: str, m: int, n: int, k: int, device: int, fine_scales: bool) -> AnyTile:
    """Remembered, because a model asks for the same few sizes at every step."""
    architecture = cupy_launch.device_architecture(device)
    return tile_tables.choose(kernel, m, n, k, architecture, _multiprocessors(device), fine_scales=fine_scales).tile


@cache
def _multiprocessors(device: int) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def forget_tiles() -> None:
    """Looks tiles up again: a table has changed."""
    _known_tile.cache_clear()
