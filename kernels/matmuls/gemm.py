"""What the kernels of `scaled_mm` share, on every architecture: a dense weight of 8-bit codes."""

from __future__ import annotations

from typing import Any

import torch

from quant.kernels.host.operands import Multiplied
from quant.kernels.matmuls import random_operands
from quant.kernels.matmuls.base import Gpu, Matmul, T


class Gemm(Matmul[T]):
    """A kernel of `scaled_mm`: rows of codes times rows of codes."""

    def planned(self, gpu: Gpu, *operands: Any, **named: Any) -> Multiplied:
        a, b, epilogue = operands
        (m, k), n = a.shape, b.shape[0]
        tile = gpu.tile(self, m, n, k, epilogue.has_block_scales(n, k))
        return self.plan(a, b, epilogue, tile, multiprocessors=gpu.multiprocessors)

    def random_weight(self, n: int, k: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        return random_operands.values(n, k, self.dtypes[0], device), torch.rand(n, 1, device=device)
