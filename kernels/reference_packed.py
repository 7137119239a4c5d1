"""What the matmuls with packed weights compute: `ops.int4_mm` and `ops.int8_mm`, in plain torch on any device.

With a float input the weight is dequantized in the input's dtype, as a kernel does it in registers. With an 8-bit input
each group is summed before its scale is applied: INT8 exactly, FP8 by exact products summed in FP32.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from quant.kernels import weight_orders
from quant.kernels.arguments import Epilogue, Int4Weight
from quant.kernels.checks import CODES
from quant.kernels.layouts import nibbles
from quant.kernels.reference import accumulate, finish

#: a @ b.T in float32, of codes.
Multiply = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def int4_mm(a: torch.Tensor, b: Int4Weight, epilogue: Epilogue) -> torch.Tensor:
    """`ops.int4_mm` on a [M, K], with a weight in any order."""
    b = weight_orders.plain(b, a.shape[1])
    codes = nibbles.unpack(b.packed, a.shape[1])
    if a.dtype not in CODES:
        return finish(a.float() @ dequantized(codes, b.scale, b.zero, a.dtype).T, epilogue)
    weight = codes if a.dtype == torch.int8 else codes.to(a.dtype)
    return finish(by_group(a, weight, b.scale, accumulate) * epilogue.a_scale, epilogue)


def int8_mm(a: torch.Tensor, b: torch.Tensor, b_scale: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """`ops.int8_mm` on a [M, K]."""
    return finish(a.float() @ dequantized(b, b_scale, None, a.dtype).T, epilogue)


def dequantized(
    codes: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None, dtype: torch.dtype
) -> torch.Tensor:
    """(codes - zero) * scale in float32, rounded to `dtype` and back to float32.

    Args:
        codes: int8 [N, K].
        scale, zero: [N, G], each for K/G columns.
    """
    parts = codes.reshape(*scale.shape, codes.shape[1] // scale.shape[1]).float()
    steps = parts if zero is None else parts - zero.float().unsqueeze(-1)
    return (steps * scale.float().unsqueeze(-1)).to(dtype).float().reshape(codes.shape)


def by_group(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor, multiply: Multiply) -> torch.Tensor:
    """sum over groups g of (a_g @ b_g.T) * scale_g in float32 [M, N], the groups added in order of K."""
    groups = scale.shape[1]
    total = torch.zeros(a.shape[0], b.shape[0], device=a.device)
    for group, (part_a, part_b) in enumerate(zip(a.chunk(groups, 1), b.chunk(groups, 1), strict=True)):
        total = total + multiply(part_a, part_b) * scale[:, group].float()
    return total
