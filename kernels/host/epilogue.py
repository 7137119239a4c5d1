"""The epilogue of a matmul as its kernel has it: the structure it reads, and macros that say what there is of it."""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.host import structures
from quant.kernels.host.operands import Operands
from quant.kernels.host.structures import Rows

#: `enum Part` of epilogue.cuh.
PARTS = {"bias": 1, "gate": 2, "residual": 4, "one_b_scale": 8}
#: `enum Blocks` of epilogue.cuh.
NO_BLOCKS, BLOCKS_OF_B, BLOCKS_OF_BOTH = 0, 1, 2
#: Elements that a thread reads or writes at once.
VECTOR = 8


class PlannedEpilogue(NamedTuple):
    """What a kernel needs to know.

    Attributes:
        structure: `Epilogue` of epilogue.cuh.
        blocks: which scales are by block of K.
        defines: macros of a build: OUT, ACTIVATE, PARTS, BLOCK_SCALES, ALIGNED, FAST_SUMS.
    """

    structure: structures.Epilogue
    blocks: int
    defines: dict[str, int]


def plan(operands: Operands, epilogue: Epilogue, n: int, k: int) -> PlannedEpilogue:
    """The epilogue of out [M, n]; `k` before it was padded. Its tensors are held by `operands`."""

    def rows(x: torch.Tensor | None) -> Rows:
        return operands.rows(x, () if x is None else x.shape)

    a_scale, b_scale = epilogue.a_scale, epilogue.b_scale
    blocks = blocks_of(epilogue, n, k)
    present = {
        "bias": epilogue.bias is not None,
        "gate": epilogue.gate is not None,
        "residual": epilogue.residual is not None,
        "one_b_scale": b_scale.numel() == 1,
    }
    structure = structures.Epilogue(
        bias=rows(epilogue.bias),
        residual=rows(epilogue.residual),
        gate=rows(epilogue.gate),
        out_scale=operands.address(epilogue.out_scale),
    )
    if blocks != BLOCKS_OF_BOTH:
        structure.a_scale = operands.address(a_scale)
        structure.a_scale_stride = 0 if a_scale.shape[0] == 1 else a_scale.stride(0)
    if b_scale.numel() == 1:
        structure.b_scale = Rows(base=operands.address(b_scale), dtype=structures.DTYPES[torch.float32])
    elif blocks == NO_BLOCKS:
        structure.b_scale = rows(b_scale.reshape(n))
    parts = sum(PARTS[name] for name, there in present.items() if there)
    return PlannedEpilogue(
        structure, blocks, defines(epilogue, parts=parts, blocks=blocks, aligned=operands.aligned and n % VECTOR == 0)
    )


def blocks_of(epilogue: Epilogue, n: int, k: int) -> int:
    """`NO_BLOCKS`, `BLOCKS_OF_B` or `BLOCKS_OF_BOTH`."""
    if not epilogue.has_block_scales(n, k):
        return NO_BLOCKS
    return BLOCKS_OF_BOTH if epilogue.a_scale.shape[1] > 1 else BLOCKS_OF_B


def defines(epilogue: Epilogue, *, parts: int, blocks: int, aligned: bool) -> dict[str, int]:
    """The macros of an epilogue."""
    return {
        "OUT": structures.DTYPES[epilogue.out_dtype],
        "ACTIVATE": structures.ACTIVATIONS[epilogue.activation],
        "PARTS": parts,
        "BLOCK_SCALES": blocks,
        "ALIGNED": int(aligned),
        "FAST_SUMS": int(epilogue.fast_accumulate),
    }
