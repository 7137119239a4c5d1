"""The product of INT8 codes by torch's own matmuls: bit-equal to the reference's, since all its sums are exact."""

from __future__ import annotations

import torch

from quant.kernels.limits import Limits

NAME = "torch._int_mm"
#: Where torch 2.13 multiplies INT8 on a CPU: with K = 1 it returns other numbers than the products.
ON_CPU = Limits(devices=("cpu",), dtypes=(torch.int8,), k_at_least=2)
#: Columns whose products any float32 sum holds exactly, in whatever order it adds: 1024 * 128 * 128 = 2**24.
STRETCH = 1024


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a @ b.T in float32 [M, N], of INT8 a [M, K] and b [N, K]."""
    if a.is_cpu and not has_fast_int8():
        return by_floats(a, b)
    return torch._int_mm(a.contiguous(), b.contiguous().T).float()


def has_fast_int8() -> bool:
    """Whether this CPU has instructions that torch multiplies INT8 with.

    Without AVX-512 `torch._int_mm` is a loop: on an EPYC with AVX2 it took 63 ms of one core for M, K, N = 1024, 256,
    256, and `by_floats` 2.3 ms.
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def by_floats(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The same by float32 matmuls of stretches of K, whose sums are added in INT32 and rounded once."""
    stretches = zip(torch.split(a, STRETCH, 1), torch.split(b, STRETCH, 1), strict=True)
    sums = [one.float() @ other.float().T for one, other in stretches]
    if len(sums) == 1:
        return sums[0]
    total = sums[0].int()
    for each in sums[1:]:
        total += each.int()
    return total.float()
