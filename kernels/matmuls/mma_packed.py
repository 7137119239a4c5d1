"""The host side of mma_swap_ab.cuh: shapes, scales and addresses to a launch."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from quant.kernels.arguments import Epilogue, Sparse24Weight
from quant.kernels.host import epilogue as endings
from quant.kernels.host.operands import Multiplied, Operands, aligned
from quant.kernels.host.structures import SwapArguments
from quant.kernels.matmuls import packed
from quant.kernels.matmuls.packed import Variant, Weight
from quant.kernels.runtime.launch import Build, Launch
from quant.kernels.swap_kinds import KINDS
from quant.kernels.swap_tiles import SLAB, PackedTile


def build(kernel: str, tile: PackedTile, ending: Mapping[str, int], variant: Variant) -> Build:
    """What to compile; `ending` are the macros of an epilogue."""
    sizes = {
        "TILE_N": tile.n,
        "TILE_M": tile.m,
        "SLABS": tile.slabs,
        "WARP_N": tile.warp_n,
        "WARP_M": tile.warp_m,
        "WARPS_K": tile.warps_k,
        "STAGES": tile.stages,
    }
    return Build(kernel, tuple({**sizes, **variant.defines(), **ending}.items()))


def plan(kernel: str, a: torch.Tensor, weight: Weight, epilogue: Epilogue, tile: PackedTile) -> Multiplied:
    """A matmul a [M, K] weight [N, K]^T as a launch, with its result allocated and not yet filled.

    Args:
        kernel: one of `KINDS` that is not Hopper's.
        a: codes or floats, of one of its dtypes.
        weight: in its layout.
        epilogue: scales of rows and columns, and what follows.
        tile: how to cut it.
    """
    operands = Operands()
    kind = KINDS[kernel]
    m, k = a.shape
    ending = endings.plan(operands, epilogue, weight.n, k)
    out = torch.empty(m, weight.n, dtype=epilogue.out_dtype, device=a.device)
    a = aligned(a)
    fragments = weight.values if isinstance(weight, Sparse24Weight) else weight.packed
    scales = packed.groups(operands, a.dtype, weight, k, SLAB)
    arguments = SwapArguments(
        a=operands.address(a),
        a_stride=a.stride(0) * a.itemsize,
        weight=operands.address(fragments),
        metadata=operands.address(weight.meta if isinstance(weight, Sparse24Weight) else None),
        out=operands.address(out),
        m=m,
        n=weight.n,
        k=a.shape[1] * a.itemsize,
        slabs=fragments.shape[0],
        blocks=fragments.shape[1],
        promote_slabs=scales.promote_steps,
        scales=scales.structure,
        epilogue=ending.structure,
    )
    built = build(kernel, tile, ending.defines, scales.variant)
    grid = -(-m // tile.m) * -(-weight.n // tile.n)
    return Multiplied(Launch(built, grid, (tile.threads, 1), tile.shared_bytes(kind), arguments), out, operands.held)
