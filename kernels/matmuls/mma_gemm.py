"""The host side of mma_gemm.cuh: shapes, scales and addresses to a launch."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from quant.kernels.arguments import SCALE_BLOCK, Epilogue
from quant.kernels.host import epilogue as endings
from quant.kernels.host.operands import Multiplied, Operands, aligned
from quant.kernels.host.structures import MmaArguments
from quant.kernels.runtime.launch import Build, Launch
from quant.kernels.tiles import Tile

INT8 = "sm80_int8_gemm"
FP8 = "sm89_fp8_gemm"


def build(kernel: str, tile: Tile, ending: Mapping[str, int]) -> Build:
    """What to compile; `ending` are the macros of an epilogue."""
    sizes = {
        "TILE_M": tile.m,
        "TILE_N": tile.n,
        "TILE_K": tile.k,
        "WARP_M": tile.warp_m,
        "WARP_N": tile.warp_n,
        "STAGES": tile.stages,
    }
    return Build(kernel, tuple({**sizes, **ending}.items()))


def plan(kernel: str, a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue, tile: Tile) -> Multiplied:
    """The arguments of `reference.scaled_mm` as a launch, with its result allocated and not yet filled."""
    operands = Operands()
    (m, k), n = a.shape, b.shape[0]
    ending = endings.plan(operands, epilogue, n, k)
    out = torch.empty(m, n, dtype=epilogue.out_dtype, device=a.device)
    a, b = aligned(a), aligned(b)
    arguments = MmaArguments(
        a=operands.address(a),
        b=operands.address(b),
        out=operands.address(out),
        a_stride=a.stride(0),
        b_stride=b.stride(0),
        m=m,
        n=n,
        k=a.shape[1],
        k_blocks=-(-k // SCALE_BLOCK),
        epilogue=ending.structure,
    )
    operands.block_scales(arguments, epilogue, ending.blocks)
    grid = -(-m // tile.m) * -(-n // tile.n)
    built = build(kernel, tile, ending.defines)
    return Multiplied(Launch(built, grid, (tile.threads, 1), tile.shared_bytes, arguments), out, operands.held)
