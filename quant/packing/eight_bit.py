"""8-bit weights: pure functions between a float weight and the codes and scales in a file.

The arithmetic of a code is defined once, in `quant.kernels.numerics`.
"""

from __future__ import annotations

import torch

from quant.kernels.numerics import encode as encode
from quant.kernels.numerics import scale_from_amax as scale_from_amax
from quant.scheme import TensorFormat


def storage_dtype(form: TensorFormat) -> torch.dtype:
    """torch dtype of tensors in this format: int8, or float8_e4m3fn."""
    return torch.int8 if form.type == "int" else torch.float8_e4m3fn


def weight_scale(weight: torch.Tensor, form: TensorFormat) -> torch.Tensor:
    """The scale of a weight [N, K]: float32 [N, 1] per channel, [1] per tensor."""
    amax = weight.float().abs().amax(dim=1, keepdim=True)
    if form.strategy == "tensor":
        amax = amax.amax().reshape(1)
    return scale_from_amax(amax, storage_dtype(form))


def unpack_weight(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The float32 weight [N, K] that the stored tensors mean: code * scale."""
    return codes.float() * scale
