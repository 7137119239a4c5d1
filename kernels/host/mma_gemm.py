"""The host side of mma_gemm.cuh: shapes, scales and addresses to a launch."""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.kernels.arguments import SCALE_BLOCK, Epilogue
from quant.kernels.host import structures
from quant.kernels.host.operands import VECTOR_BYTES, Operands, aligned
from quant.kernels.runtime.launch import Build, Launch
from quant.kernels.tiles import Tile

INT8 = "sm80_int8_gemm"
FP8 = "sm89_fp8_gemm"
#: Rows, columns and bytes of K are counted in 32 bits, up to the end of the last tile.
LARGEST_SIZE = 2**31 - 257


class Multiplied(NamedTuple):
    """A launch and what it fills.

    Attributes:
        launch: what to run.
        out: [M, N].
        held: tensors whose addresses are in the launch.
    """

    launch: Launch
    out: torch.Tensor
    held: list[torch.Tensor]


def build(kernel: str, tile: Tile, out_dtype: torch.dtype, activation: str, *, block_scales: bool) -> Build:
    """What to compile."""
    defines = {
        "TILE_M": tile.m,
        "TILE_N": tile.n,
        "TILE_K": tile.k,
        "WARP_M": tile.warp_m,
        "WARP_N": tile.warp_n,
        "STAGES": tile.stages,
        "OUT": structures.DTYPES[out_dtype],
        "ACTIVATE": structures.ACTIVATIONS[activation],
        "BLOCK_SCALES": int(block_scales),
    }
    return Build(kernel, tuple(defines.items()))


def plan(kernel: str, a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue, tile: Tile) -> Multiplied:
    """The arguments of `reference.scaled_mm` as a launch, with its result allocated and not yet filled."""
    operands = Operands()
    (m, k), n = a.shape, b.shape[0]
    blocks = epilogue.has_block_scales(n, k)
    out = torch.empty(m, n, dtype=epilogue.out_dtype, device=a.device)
    a, b = aligned(a), aligned(b)
    arguments = structures.GemmArguments(
        a=operands.address(a),
        b=operands.address(b),
        out=operands.address(out),
        a_stride=a.stride(0),
        b_stride=b.stride(0),
        m=m,
        n=n,
        k=a.shape[1],
        k_blocks=-(-k // SCALE_BLOCK),
        out_vectors=int(n * out.itemsize % min(8 * out.itemsize, VECTOR_BYTES) == 0),
        epilogue=_epilogue(operands, epilogue, n, blocks=blocks),
    )
    if blocks:
        arguments.b_block_scales = operands.address(epilogue.b_scale.contiguous())
        if epilogue.a_scale.shape[1] > 1:
            arguments.a_block_scales = operands.address(epilogue.a_scale.contiguous())
    built = build(kernel, tile, epilogue.out_dtype, epilogue.activation, block_scales=blocks)
    grid = -(-m // tile.m) * -(-n // tile.n)
    return Multiplied(Launch(built, grid, (tile.threads, 1), tile.shared_bytes, arguments), out, operands.held)


def _epilogue(operands: Operands, epilogue: Epilogue, n: int, *, blocks: bool) -> structures.Epilogue:
    def rows(x: torch.Tensor | None) -> structures.Rows:
        return operands.rows(x, () if x is None else x.shape)

    a_scale, b_scale = epilogue.a_scale, epilogue.b_scale
    filled = structures.Epilogue(
        bias=rows(epilogue.bias),
        residual=rows(epilogue.residual),
        gate=rows(epilogue.gate),
        out_scale=operands.address(epilogue.out_scale),
    )
    if a_scale.shape[1] == 1:
        filled.a_scale = operands.address(a_scale)
        filled.a_scale_stride = 0 if a_scale.shape[0] == 1 else a_scale.stride(0)
    if not blocks and b_scale.numel() == 1:
        filled.one_b_scale = operands.address(b_scale)
    elif not blocks:
        filled.b_scale = rows(b_scale.reshape(n))
    return filled
