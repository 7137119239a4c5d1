"""Operands to tune a matmul with: random ones, in the order that its kernel reads."""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.kernels.arguments import Epilogue, Int4Weight, Sparse24Weight
from quant.kernels.hopper_swap_tiles import HopperPackedTile
from quant.kernels.host.operands import Multiplied
from quant.kernels.layouts import fragments, int4_fragments, mma_sparse24, wgmma_sparse24
from quant.kernels.matmuls import mma_gemm, mma_packed, sm90_gemm, sm90_packed
from quant.kernels.matmuls.packed import Weight
from quant.kernels.swap_kinds import KINDS, SwapKind
from quant.kernels.swap_tiles import PackedTile
from quant.kernels.tile_tables import AnyTile
from quant.kernels.tiles import Tile

#: Columns that share a scale of a 4-bit weight.
GROUP = 128


class Size(NamedTuple):
    """A matmul to tune: out [m, n] = a [m, k] b [n, k]^T by a kernel."""

    kernel: str
    m: int
    n: int
    k: int


def planned(size: Size, tile: AnyTile, device: torch.device, multiprocessors: int) -> Multiplied:
    """A launch on `device` with plain scales and a bf16 result."""
    kind = KINDS.get(size.kernel)
    if kind is not None:
        return _swapped(size, kind, tile, device, multiprocessors)
    dtype = torch.float8_e4m3fn if size.kernel in (mma_gemm.FP8, sm90_gemm.FP8) else torch.int8
    a, b = _codes(size.m, size.k, dtype, device), _codes(size.n, size.k, dtype, device)
    epilogue = Epilogue(torch.rand(size.m, 1, device=device), torch.rand(size.n, 1, device=device))
    if isinstance(tile, Tile):
        return mma_gemm.plan(size.kernel, a, b, epilogue, tile)
    assert not isinstance(tile, PackedTile | HopperPackedTile)
    return sm90_gemm.plan(size.kernel, a, b, epilogue, tile, multiprocessors=multiprocessors)


def _swapped(size: Size, kind: SwapKind, tile: AnyTile, device: torch.device, multiprocessors: int) -> Multiplied:
    dtype = kind.dtypes[0]
    codes = dtype.itemsize == 1
    a = _codes(size.m, size.k, dtype, device) if codes else torch.randn(size.m, size.k, device=device).to(dtype)
    scale = torch.rand(size.m, 1, device=device) if codes else torch.ones(1, 1, device=device)
    epilogue = Epilogue(scale, torch.ones(1, 1, device=device))
    weight = _sparse(size, kind, device) if kind.sparse else _int4(size, kind, device)
    if isinstance(tile, HopperPackedTile):
        return sm90_packed.plan(size.kernel, a, weight, epilogue, tile, multiprocessors=multiprocessors)
    assert isinstance(tile, PackedTile)
    return mma_packed.plan(size.kernel, a, weight, epilogue, tile)


def _sparse(size: Size, kind: SwapKind, device: torch.device) -> Weight:
    """Of every four columns the first and the last: any two take the same time."""
    order = wgmma_sparse24 if kind.hopper else mma_sparse24
    meta = torch.full((size.n, -(-size.k // 8)), 0xCC, dtype=torch.uint8, device=device)
    dtype = kind.dtypes[0]
    values = (
        _codes(size.n, size.k // 2, dtype, device)
        if dtype.itemsize == 1
        else torch.randn(size.n, size.k // 2, device=device).to(dtype)
    )
    packed, metadata = order.pack(values, meta)
    return Sparse24Weight(packed, metadata, size.n, order.NAME)


def _int4(size: Size, kind: SwapKind, device: torch.device) -> Weight:
    """Any bits are codes."""
    slabs, blocks = fragments.slabs_of(size.k), fragments.blocks_of(size.n)
    packed = torch.randint(-(2**31), 2**31, (slabs, blocks, 32, 4), dtype=torch.int32, device=device)
    groups = size.k // GROUP if size.k % GROUP == 0 else 1
    scale = torch.rand(groups, blocks * fragments.BLOCK, device=device).to(torch.bfloat16)
    layout = int4_fragments.NAME_16 if kind.in_bytes == 2 else int4_fragments.NAME_8
    return Int4Weight(packed, scale, None, size.n, layout)


def _codes(rows: int, k: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Any but e4m3's NaN, whose bits are -1: one of them in a row would leave nothing but NaN to add up."""
    codes = torch.randint(-100, 101, (rows, k), dtype=torch.int8, device=device)
    return codes if dtype == torch.int8 else codes.masked_fill_(codes == -1, 0).view(dtype)
