"""Operands of the matmuls with packed and sparse weights, and what they are in plain words."""

from __future__ import annotations

import torch

from quant.kernels.numerics import LARGEST

FP8 = torch.float8_e4m3fn
FLOATS = [torch.float32, torch.bfloat16, torch.float16]


def generator_of(*seeds: int) -> torch.Generator:
    return torch.Generator().manual_seed(sum(seed * 1009**place for place, seed in enumerate(seeds)))


def activations(m: int, k: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """Floats, or codes, [m, k]."""
    values = torch.randn(m, k, generator=generator)
    if dtype in LARGEST:
        return (values * 40).clamp(-LARGEST[dtype], LARGEST[dtype]).to(dtype)
    return values.to(dtype)


def nibble_codes(n: int, k: int, generator: torch.Generator) -> torch.Tensor:
    """Every code of 4 bits, int8 [n, k]."""
    return torch.randint(-8, 8, (n, k), dtype=torch.int8, generator=generator)


def group_scales(n: int, groups: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    return (torch.rand(n, groups, generator=generator) + 0.1).to(dtype) * 0.01


def spread(by_group: torch.Tensor, k: int) -> torch.Tensor:
    """[N, G] as float64 [N, k]: each column with its group's."""
    groups = by_group.shape[1]
    return torch.stack([by_group[:, column * groups // k].double() for column in range(k)], dim=1)


def weight_24(n: int, k: int, dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    """[n, k] with two of every four zero, at random places."""
    keep = torch.rand(n, k // 4, 4, generator=generator).argsort(-1) < 2
    return activations(n, k, torch.float32, generator).mul_(40).mul_(keep.view(n, k)).add_(0.0).to(dtype)
