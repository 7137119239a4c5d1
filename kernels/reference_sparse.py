"""What `ops.sparse_scaled_mm` computes: the dense matmul with the weight that the kept values and their places mean."""

from __future__ import annotations

import torch

from quant.kernels import reference, weight_orders
from quant.kernels.arguments import Epilogue, Sparse24Weight
from quant.kernels.checks import CODES
from quant.kernels.layouts import sparse24


def sparse_scaled_mm(a: torch.Tensor, b: Sparse24Weight, epilogue: Epilogue) -> torch.Tensor:
    """On a [M, K], codes with scales, or floats with scales of 1; with a weight in any order."""
    b = weight_orders.plain(b, a.shape[1])
    weight = sparse24.decompress(b.values, b.meta, a.shape[1])
    if a.dtype in CODES:
        return reference.scaled_mm(a, weight, epilogue)
    return reference.finish(a.float() @ weight.float().T, epilogue)
