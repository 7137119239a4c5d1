"""What `ops.sparse_scaled_mm` computes: the dense matmul with the weight that the kept values and their places mean."""

from __future__ import annotations

import torch

from quant.kernels import reference
from quant.kernels.arguments import Epilogue
from quant.kernels.checks import CODES
from quant.kernels.layouts import sparse24


def sparse_scaled_mm(a: torch.Tensor, b_values: torch.Tensor, b_meta: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """On a [M, K], codes with scales, or floats with scales of 1."""
    weight = sparse24.decompress(b_values, b_meta, a.shape[1])
    if a.dtype in CODES:
        return reference.scaled_mm(a, weight, epilogue)
    return reference.finish(a.float() @ weight.float().T, epilogue)
