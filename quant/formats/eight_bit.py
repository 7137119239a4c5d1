"""8-bit codes of a format, by the arithmetic that `quant.kernels.numerics` defines once."""

from __future__ import annotations

import torch

from quant.formats.scheme import TensorFormat
from quant.kernels.numerics import encode as encode
from quant.kernels.numerics import scale_from_amax as scale_from_amax


def storage_dtype(tensor_format: TensorFormat) -> torch.dtype:
    """torch dtype of tensors in this format: int8, or float8_e4m3fn."""
    return torch.int8 if tensor_format.type == "int" else torch.float8_e4m3fn
