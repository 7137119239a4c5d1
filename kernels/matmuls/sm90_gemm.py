"""The host side of sm90_gemm.cuh: shapes, scales, addresses and maps of the copy engine to a launch."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from quant.kernels.arguments import SCALE_BLOCK, Epilogue
from quant.kernels.hopper_tiles import HopperTile
from quant.kernels.host import epilogue as endings
from quant.kernels.host.operands import VECTOR_BYTES, Multiplied, Operands, aligned
from quant.kernels.host.structures import HopperArguments
from quant.kernels.runtime.launch import Build, Launch, TensorMap

INT8 = "sm90_int8_gemm"
FP8 = "sm90_fp8_gemm"
#: A box of results: what one warpgroup writes at a time.
_STAGED_ROWS, _STAGED_BYTES = 64, 128


def is_staged(tile: HopperTile, n: int, itemsize: int, *, aligned: bool) -> bool:
    """Do results leave by the copy engine? It takes rows of whole 16 bytes, and boxes that fill a tile."""
    row = n * itemsize
    # The kernel counts bytes of a row in 32 bits.
    return aligned and row % VECTOR_BYTES == 0 and row < 2**31 and tile.n * itemsize % _STAGED_BYTES == 0


def build(kernel: str, tile: HopperTile, ending: Mapping[str, int], *, staged: bool) -> Build:
    """What to compile; `ending` are the macros of an epilogue."""
    sizes = {
        "TILE_N": tile.n,
        "GROUPS": tile.groups,
        "GROUP_M": tile.group_m,
        "STAGES": tile.stages,
        "CLUSTER": tile.cluster,
        "STAGED": int(staged),
    }
    return Build(kernel, tuple({**sizes, **ending}.items()))


def plan(
    kernel: str, a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue, tile: HopperTile, *, multiprocessors: int
) -> Multiplied:
    """The arguments of `reference.scaled_mm` as a launch, with its result allocated and not yet filled.

    Args:
        kernel, a, b, epilogue: what to compute.
        tile: how.
        multiprocessors: of the device; as many blocks as fit stay on it until all tiles are done.
    """
    operands = Operands()
    (m, k), n = a.shape, b.shape[0]
    ending = endings.plan(operands, epilogue, n, k)
    out = torch.empty(m, n, dtype=epilogue.out_dtype, device=a.device)
    a, b = aligned(a), aligned(b)
    staged = is_staged(tile, n, out.itemsize, aligned=bool(ending.defines["ALIGNED"]))
    arguments = HopperArguments(
        result=operands.address(out),
        m=m,
        n=n,
        k=a.shape[1],
        k_blocks=-(-k // SCALE_BLOCK),
        epilogue=ending.structure,
    )
    operands.block_scales(arguments, epilogue, ending.blocks)
    maps = [
        ("a", _map(operands, a, tile.m)),
        ("b", _map(operands, b, tile.n // tile.cluster)),
    ]
    if staged:
        row = n * out.itemsize
        maps.append(("out", TensorMap(out.data_ptr(), m, row, row, _STAGED_ROWS, _STAGED_BYTES)))
    tiles = -(-m // (tile.m * tile.cluster)) * -(-n // tile.n)
    clusters = min(tiles, max(multiprocessors * tile.resident // tile.cluster, 1))
    launch = Launch(
        build(kernel, tile, ending.defines, staged=staged),
        clusters * tile.cluster,
        (tile.threads, 1),
        tile.shared_bytes,
        arguments,
        tuple(maps),
        tile.cluster,
    )
    return Multiplied(launch, out, operands.held)


def _map(operands: Operands, codes: torch.Tensor, rows: int) -> TensorMap:
    address = operands.address(codes)
    assert address is not None
    return TensorMap(address, codes.shape[0], codes.shape[1], codes.stride(0), rows)
