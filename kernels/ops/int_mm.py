"""The product of INT8 codes that torch itself has: bit-equal to the reference's, since both sums are exact."""

from __future__ import annotations

import torch

from quant.kernels.limits import Limits

NAME = "torch._int_mm"
#: Where torch 2.13 multiplies INT8 on a CPU: with K = 1 it returns other numbers than the products.
ON_CPU = Limits(devices=("cpu",), dtypes=(torch.int8,), k_at_least=2)


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b.T in float32 [M, N], of INT8 a [M, K] and b [N, K]."""
    return torch._int_mm(a.contiguous(), b.contiguous().T).float()
