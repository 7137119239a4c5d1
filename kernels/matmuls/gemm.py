"""What the kernels of `scaled_mm` share, on every architecture: a dense weight of 8-bit codes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import torch

from quant.kernels.host.operands import Multiplied
from quant.kernels.matmuls import random_operands
from quant.kernels.matmuls.base import ANY_SIZE, INT8, Gpu, Matmul, T
from quant.kernels.numerics import LARGEST_INT8_K


class Gemm(Matmul[T]):
    """A kernel of `scaled_mm`: rows of codes times rows of codes."""

    @classmethod
    def of(cls, name: str, summary: str, dtype: torch.dtype, architectures: tuple[str, ...], instruction: str) -> Self:
        """A row of a kernel for codes of this dtype; INT8 is summed in INT32."""
        limits = replace(ANY_SIZE, k_at_most=LARGEST_INT8_K) if dtype == INT8 else ANY_SIZE
        return cls(name, "scaled_mm", summary, (dtype,), architectures, limits, instruction)

    def planned(self, gpu: Gpu, *operands: Any, **named: Any) -> Multiplied:
        a, b, epilogue = operands
        (m, k), n = a.shape, b.shape[0]
        tile = gpu.tile(self, m, n, k, epilogue.has_block_scales(n, k))
        return self.plan(a, b, epilogue, tile, multiprocessors=gpu.multiprocessors)

    def random_weight(self, n: int, k: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        return random_operands.values(n, k, self.dtypes[0], device), torch.rand(n, 1, device=device)
