"""The host side of sm90_swap_ab.cuh: shapes, scales, addresses and maps of the copy engine to a launch."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from quant.kernels.arguments import Epilogue, Sparse24Weight
from quant.kernels.hopper_swap_tiles import HopperPackedTile
from quant.kernels.host import epilogue as endings
from quant.kernels.host.operands import Multiplied, Operands, aligned
from quant.kernels.host.structures import HopperSwapArguments
from quant.kernels.matmuls import packed
from quant.kernels.matmuls.packed import Variant, Weight
from quant.kernels.runtime.launch import Build, Launch, TensorMap
from quant.kernels.swap_kinds import KINDS

_STEP_BYTES = 128  # of a token's row
_ROW = 128  # bytes of a row of the maps of what has no rows of its own


def build(kernel: str, tile: HopperPackedTile, ending: Mapping[str, int], variant: Variant) -> Build:
    """What to compile; `ending` are the macros of an epilogue."""
    sizes = {
        "TILE_M": tile.m,
        "GROUPS": tile.groups,
        "GROUP_N": tile.group_n,
        "STAGES": tile.stages,
        "CLUSTER": tile.cluster,
    }
    return Build(kernel, tuple({**sizes, **variant.defines(), **ending}.items()))


def plan(
    kernel: str, a: torch.Tensor, weight: Weight, epilogue: Epilogue, tile: HopperPackedTile, *, multiprocessors: int
) -> Multiplied:
    """A matmul a [M, K] weight [N, K]^T as a launch, with its result allocated and not yet filled.

    Args:
        kernel: one of `KINDS` that is Hopper's.
        a, weight, epilogue, tile: as of `mma_packed.plan`.
        multiprocessors: of the device; as many blocks as fit stay on it until all tiles are done.
    """
    operands = Operands()
    kind = KINDS[kernel]
    m, k = a.shape
    n = weight.n
    ending = endings.plan(operands, epilogue, n, k)
    out = torch.empty(m, n, dtype=epilogue.out_dtype, device=a.device)
    a = aligned(a)
    scales = packed.groups(operands, a.dtype, weight, k, _STEP_BYTES // a.itemsize)
    maps = [
        (
            "a",
            TensorMap(_held(operands, a), m, a.shape[1] * a.itemsize, a.stride(0) * a.itemsize, tile.m // tile.cluster),
        )
    ]
    if isinstance(weight, Sparse24Weight):
        values, meta = aligned(weight.values), weight.meta
        width, stride = values.shape[1] * values.itemsize, values.stride(0) * values.itemsize
        weight_rows = meta[0].nbytes // _ROW
        maps += [
            ("weight", TensorMap(_held(operands, values), n, width, stride, tile.n, 64, 64)),
            ("metadata", _rows(operands, meta, tile.n // 8)),
        ]
    else:
        weight_rows = weight.packed[0].nbytes // _ROW
        maps.append(("weight", _rows(operands, weight.packed, tile.n // 4)))
    arguments = HopperSwapArguments(
        out=operands.address(out),
        m=m,
        n=n,
        k=a.shape[1] * a.itemsize,
        weight_rows=weight_rows,
        promote_steps=scales.promote_steps,
        scales=scales.structure,
        epilogue=ending.structure,
    )
    tiles = -(-n // (tile.n * tile.cluster)) * -(-m // tile.m)
    clusters = min(tiles, tile.clusters(multiprocessors))
    launch = Launch(
        build(kernel, tile, ending.defines, scales.variant),
        clusters * tile.cluster,
        (tile.threads, 1),
        tile.shared_bytes(kind),
        arguments,
        tuple(maps),
        tile.cluster,
    )
    return Multiplied(launch, out, operands.held)


def _rows(operands: Operands, x: torch.Tensor, box_rows: int) -> TensorMap:
    """A contiguous tensor as rows of 128 bytes, which are not swizzled."""
    return TensorMap(_held(operands, x), x.nbytes // _ROW, _ROW, _ROW, box_rows, _ROW, 0)


def _held(operands: Operands, x: torch.Tensor) -> int:
    address = operands.address(x)
    assert address is not None
    return address
