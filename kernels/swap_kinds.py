"""The kernels whose left operand is the weight, and what of each its tiles and its launches depend on."""

from __future__ import annotations

from typing import NamedTuple

import torch

INT8, FP8 = torch.int8, torch.float8_e4m3fn
FLOATS = (torch.bfloat16, torch.float16)


class SwapKind(NamedTuple):
    """One kernel made of mma_swap_ab.cuh or sm90_swap_ab.cuh.

    Attributes:
        name: of its source.
        dtypes: of the other operand, all of one size.
        sparse: is the weight 2:4? Else it is four bits wide.
        hopper: is it made of sm90_swap_ab.cuh?
    """

    name: str
    dtypes: tuple[torch.dtype, ...]
    sparse: bool
    hopper: bool

    @property
    def op(self) -> str:
        """The op it implements."""
        return "sparse_scaled_mm" if self.sparse else "int4_mm"

    @property
    def in_bytes(self) -> int:
        """Of an element of the other operand."""
        return self.dtypes[0].itemsize

    @property
    def promoted(self) -> bool:
        """Are its sums kept twice: FP8's, and those that are scaled by group?"""
        return FP8 in self.dtypes or (not self.sparse and INT8 in self.dtypes)

    @property
    def weight_bytes(self) -> int:
        """Of 16 rows x 64 columns of the weight, without metadata."""
        return 512 * self.in_bytes if self.sparse else 512

    @property
    def metadata_bytes(self) -> int:
        """Of the same: on Hopper two words for each thread and 128 bytes of a row, where 16-bit types use half."""
        if not self.sparse:
            return 0
        return 128 * self.in_bytes if self.hopper else 128

    @property
    def rate(self) -> float:
        """Products that it multiplies in the time of one dense 8-bit product, zeros of the weight counted."""
        return (2.0 if self.sparse else 1.0) / self.in_bytes


SPARSE_INT8, SPARSE_FLOATS, SPARSE_FP8 = "sm80_sparse_int8_gemm", "sm80_sparse_16bit_gemm", "sm89_sparse_fp8_gemm"
W4A16, W4A8, W4AFP8 = "sm80_w4a16_gemm", "sm80_w4a8_gemm", "sm89_w4afp8_gemm"
HOPPER_SPARSE_INT8, HOPPER_SPARSE_FLOATS, HOPPER_SPARSE_FP8 = (
    "sm90_sparse_int8_gemm",
    "sm90_sparse_16bit_gemm",
    "sm90_sparse_fp8_gemm",
)
HOPPER_W4A16, HOPPER_W4A8, HOPPER_W4AFP8 = "sm90_w4a16_gemm", "sm90_w4a8_gemm", "sm90_w4afp8_gemm"

KINDS: dict[str, SwapKind] = {
    name: SwapKind(name, dtypes, sparse, hopper)
    for name, dtypes, sparse, hopper in (
        (SPARSE_INT8, (INT8,), True, False),
        (SPARSE_FLOATS, FLOATS, True, False),
        (SPARSE_FP8, (FP8,), True, False),
        (W4A16, FLOATS, False, False),
        (W4A8, (INT8,), False, False),
        (W4AFP8, (FP8,), False, False),
        (HOPPER_SPARSE_INT8, (INT8,), True, True),
        (HOPPER_SPARSE_FLOATS, FLOATS, True, True),
        (HOPPER_SPARSE_FP8, (FP8,), True, True),
        (HOPPER_W4A16, FLOATS, False, True),
        (HOPPER_W4A8, (INT8,), False, True),
        (HOPPER_W4AFP8, (FP8,), False, True),
    )
}
