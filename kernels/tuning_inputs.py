"""A launch to tune a matmul with: random operands, in the order that its kernel reads."""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.kernels.arguments import Epilogue
from quant.kernels.host.operands import Multiplied
from quant.kernels.matmuls import table
from quant.kernels.matmuls.base import Tile
from quant.kernels.matmuls.random_operands import values
from quant.kernels.numerics import CODES


class Size(NamedTuple):
    """A matmul to tune: out [m, n] = a [m, k] b [n, k]^T by a kernel."""

    kernel: str
    m: int
    n: int
    k: int


def planned(size: Size, tile: Tile, device: torch.device, multiprocessors: int) -> Multiplied:
    """A launch on `device` with plain scales and a bf16 result."""
    kernel, (m, n, k) = table.matmuls()[size.kernel], size[1:]
    a = values(m, k, kernel.dtypes[0], device)
    a_scale = torch.rand(m, 1, device=device) if a.dtype in CODES else torch.ones(1, 1, device=device)
    weight, b_scale = kernel.random_weight(n, k, device)
    return kernel.plan(a, weight, Epilogue(a_scale, b_scale), tile, multiprocessors=multiprocessors)
