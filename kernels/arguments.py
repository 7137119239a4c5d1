"""What surrounds the arithmetic of an op, as one value each: all matmuls end alike, all quantizations begin alike."""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.kernels.layouts import nibbles, sparse24

#: Rows and columns of a weight that share one scale, where it has scales by block.
SCALE_BLOCK = 128


class Prologue(NamedTuple):
    """What happens to x [..., K] before it is quantized, in this order: norm, modulation, `pre_quant_scale`.

    Attributes:
        pre_quant_scale: float32 [K]; x is multiplied by it.
        norm: "none", "layer" or "rms".
        norm_weight, norm_bias: [K].
        eps: added to the variance.
        modulation_scale, modulation_shift: both or neither, broadcasting to x: x * (1 + scale) + shift.
    """

    pre_quant_scale: torch.Tensor | None = None
    norm: str = "none"
    norm_weight: torch.Tensor | None = None
    norm_bias: torch.Tensor | None = None
    eps: float = 0.0
    modulation_scale: torch.Tensor | None = None
    modulation_shift: torch.Tensor | None = None


class Epilogue(NamedTuple):
    """What happens to the accumulator [M, N], in this order, the same for every matmul.

    Scales, bias, activation, `residual + gate * out`, and the last rounding: codes with `out_scale`, else a cast.

    Attributes:
        a_scale: float32 [M, 1] or [1, 1]; with scales by block also [M, K/128]. One 1.0 where a is not codes.
        b_scale: float32 [N, 1] or one element, or by block [N/128, K/128], rounded up. One 1.0 where the weight has
            none, or has scales by group, which the matmul itself has to apply.
        bias: [N].
        activation: one of `ops.checks.ACTIVATIONS`.
        residual, gate: [..., N] with M rows in all; views with strides 0 where they were broadcast.
        out_dtype: of the result.
        out_scale: float32 with one element; then the result is codes.
        fast_accumulate: FP8 sums may be left to the tensor core, which keeps about 14 bits of them.
    """

    a_scale: torch.Tensor
    b_scale: torch.Tensor
    bias: torch.Tensor | None = None
    activation: str = "none"
    residual: torch.Tensor | None = None
    gate: torch.Tensor | None = None
    out_dtype: torch.dtype = torch.bfloat16
    out_scale: torch.Tensor | None = None
    fast_accumulate: bool = False

    def has_block_scales(self, n: int, k: int) -> bool:
        """Has b [n, k] a scale for each 128 x 128 of it, and not one a row or one in all?"""
        return self.b_scale.numel() > 1 and self.b_scale.shape == (-(-n // SCALE_BLOCK), -(-k // SCALE_BLOCK))


class Int4Weight(NamedTuple):
    """A weight [N, K] of 4-bit codes, G groups of columns a row, in one of the orders of `weight_orders`.

    Attributes:
        packed: int32: plain [N, ceil(K/8)], see `layouts.nibbles`; else [slabs, blocks, 32, 4], see
            `layouts.int4_fragments`.
        scale: float32, bfloat16 or float16: plain [N, G], else [G, 16 * blocks].
        zero: int8 like scale; None where the codes are symmetric.
        n: rows.
        layout: name of the order.
    """

    packed: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor | None
    n: int
    layout: str = nibbles.NAME

    @property
    def groups(self) -> int:
        """Scales of a row."""
        return self.scale.shape[1 if self.layout == nibbles.NAME else 0]


class Sparse24Weight(NamedTuple):
    """A weight [N, K] with two zeros in every four columns, in one of the orders of `weight_orders`.

    Attributes:
        values: codes or floats: plain [N, K/2], see `layouts.sparse24`; else see `layouts.mma_sparse24` and
            `layouts.wgmma_sparse24`.
        meta: which columns they are of: plain uint8 [N, ceil(K/8)], else int32.
        n: rows.
        layout: name of the order.
    """

    values: torch.Tensor
    meta: torch.Tensor
    n: int
    layout: str = sparse24.NAME
