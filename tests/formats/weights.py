"""Weights for the packing tests: hypothesis strategies and compressed-tensors' view of a format."""

from __future__ import annotations

from typing import Any

import torch
from compressed_tensors.quantization import QuantizationArgs
from hypothesis import strategies as st

from quant.formats.scheme import TensorFormat

TENSOR_FORMATS = [TensorFormat(8, kind, strategy) for kind in ("int", "float") for strategy in ("channel", "tensor")]
LARGE = float(torch.finfo(torch.float32).max) / 1024


def format_id(tensor_format: TensorFormat) -> str:
    return f"{tensor_format.type}-{tensor_format.strategy}"


def theirs(tensor_format: TensorFormat) -> Any:
    """The same format as compressed-tensors' QuantizationArgs."""
    return QuantizationArgs(**tensor_format.to_dict())


@st.composite
def weights(draw: st.DrawFn) -> torch.Tensor:
    """A float32 weight [N, K] of a few rows: any magnitude, subnormals, zeros, repeated values."""
    rows, columns = draw(st.integers(1, 4)), draw(st.integers(1, 9))
    value = st.floats(-LARGE, LARGE, width=32) | st.floats(-1, 1, width=32) | st.sampled_from([0.0, -0.0, 1e-38, 1.0])
    count = rows * columns
    values = draw(st.lists(value, min_size=count, max_size=count))
    return torch.tensor(values, dtype=torch.float32).reshape(rows, columns)


def normal_weight(rows: int, columns: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A weight as models have them: normal, with rows of different size."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator) * torch.rand(rows, 1, generator=generator)
    return (weight * 0.1).to(dtype)
