"""`scaled_mm` by the matmuls that torch itself has: INT8 into INT32, then the reference's epilogue."""

from __future__ import annotations

import torch

from quant.kernels import reference


def scaled_mm_int8(
    a: torch.Tensor,
    a_scale: torch.Tensor,
    b: torch.Tensor,
    b_scale: torch.Tensor,
    bias: torch.Tensor | None,
    activation: str,
    residual: torch.Tensor | None,
    gate: torch.Tensor | None,
    out_dtype: torch.dtype,
    out_scale: torch.Tensor | None,
) -> torch.Tensor:
    """`ops.scaled_mm` on INT8 a [M, K]: bit-equal to the reference, since both sums are exact."""
    accumulator = torch._int_mm(a.contiguous(), b.T).float()
    return reference.epilogue(accumulator, a_scale, b_scale, bias, activation, residual, gate, out_dtype, out_scale)
