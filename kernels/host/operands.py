"""Tensors as kernels address them: rows by stride, broadcast dimensions by stride 0, nothing expanded in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.host.structures import DTYPES, HopperArguments, MmaArguments, Rows
from quant.kernels.layouts import aligned_rows
from quant.kernels.runtime.launch import Launch, TensorMap

#: Kernels read and write this many bytes at once where every row begins at a multiple of it.
VECTOR_BYTES = aligned_rows.BYTES


class Multiplied(NamedTuple):
    """A launch of a matmul and what it fills.

    Attributes:
        launch: what to run.
        out: [M, N].
        held: tensors whose addresses are in the launch.
    """

    launch: Launch
    out: torch.Tensor
    held: list[torch.Tensor]

    @property
    def result(self) -> torch.Tensor:
        """What the op returns."""
        return self.out


class Operands:
    """Makes `Rows` of tensors, and holds on to the tensors whose addresses it gave away.

    Attributes:
        held: those tensors.
        aligned: does every row of all `Rows` so far begin at a multiple of 16 bytes?
    """

    def __init__(self) -> None:
        self.held: list[torch.Tensor] = []
        self.aligned = True

    def address(self, x: torch.Tensor | None) -> int | None:
        """Address of the first element; None for an absent tensor."""
        return None if x is None else self.pointer(x)

    def pointer(self, x: torch.Tensor) -> int:
        """Address of the first element."""
        self.held.append(x)
        return x.data_ptr()

    def rows(self, x: torch.Tensor | None, shape: Sequence[int]) -> Rows:
        """`x` broadcast to `shape`, [..., N] with up to three leading dimensions, as one row of N for each m.

        Args:
            x: bfloat16, float16 or float32, any strides; None for an absent operand. Only where its last dimension
                is broadcast or strided is it copied.
            shape: of what `x` belongs to.
        """
        if x is None:
            return Rows()
        if x.shape[-1:] != shape[-1:]:
            x = x.expand(*x.shape[:-1], shape[-1])
        if x.stride(-1) != 1 and x.shape[-1] > 1:
            x = x.contiguous()
        wide = x.expand(shape)
        sizes = [1] * (4 - wide.ndim) + list(wide.shape[:-1])
        strides = [0] * (4 - wide.ndim) + list(wide.stride()[:-1])
        outer, middle, inner = (stride if size > 1 else 0 for size, stride in zip(sizes, strides, strict=True))
        steps = (x.data_ptr(), outer * x.itemsize, middle * x.itemsize, inner * x.itemsize)
        self.aligned = self.aligned and all(step % VECTOR_BYTES == 0 for step in steps)
        return Rows(
            base=self.address(x),
            outer_stride=outer,
            middle_stride=middle,
            inner_stride=inner,
            middle=max(sizes[1], 1),
            inner=max(sizes[2], 1),
            dtype=DTYPES[x.dtype],
        )

    def matrix(self, x: torch.Tensor, box_rows: int, box_bytes: int = 128, swizzle: int = 128) -> TensorMap:
        """`x` [R, C], contiguous in C, as the copy engine of Hopper reads it, box by box."""
        row, stride = x.shape[1] * x.itemsize, x.stride(0) * x.itemsize
        return TensorMap(self.pointer(x), x.shape[0], row, stride, box_rows, box_bytes, swizzle)

    def block_scales(self, arguments: MmaArguments | HopperArguments, epilogue: Epilogue, blocks: int) -> None:
        """Fills in the scales by block of K: none, those of b, or also those of a."""
        if blocks:
            arguments.b_block_scales = self.address(epilogue.b_scale.contiguous())
        if blocks == 2:
            arguments.a_block_scales = self.address(epilogue.a_scale.contiguous())


def aligned(rows: torch.Tensor) -> torch.Tensor:
    """Rows [R, K] of one- or two-byte elements in the layout `aligned_rows`: the tensor itself where it lies so, else a
    copy.
    """
    rows = aligned_rows.pack(rows)
    apart = rows.stride(0) * rows.itemsize % VECTOR_BYTES == 0 and rows.stride(0) >= rows.shape[1]
    if rows.stride(1) != 1 or not apart or rows.data_ptr() % VECTOR_BYTES:
        return rows.clone(memory_format=torch.contiguous_format)
    return rows
