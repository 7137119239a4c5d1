"""Packed layers of every format that a fused block holds, by the format's label."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from quant.algorithms.sparse24 import magnitude_mask
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.tensors import LowRank, pack_linear
from quant.layers.linear import QuantLinear
from tests.layers.quantized import quantized

EIGHT_BIT = ("FP8_DYNAMIC", "FP8", "W8A8")
#: One scale a row, so that it fits any K; the zero points of eight rows are one word of a file.
_BY_ROW = Scheme.parse({"weights": {"num_bits": 4, "type": "int", "strategy": "channel", "symmetric": False}})
LAYER_FORMATS: dict[str, LayerFormat] = {
    layer_format.label: layer_format
    for layer_format in (
        *(LayerFormat(scheme) for scheme in SCHEMES.values() if scheme.weights is not None),
        LayerFormat(_BY_ROW),
        *(LayerFormat(SCHEMES[name], sparse=True) for name in ("UNQUANTIZED", *EIGHT_BIT)),
    )
}
BY_ROW = LayerFormat(_BY_ROW).label
#: Those whose matmul reads the input as it comes.
OF_FLOATS = tuple(
    label for label, layer_format in LAYER_FORMATS.items() if layer_format.scheme.input_activations is None
)


def packed(
    linear: nn.Linear,
    layer_format: LayerFormat,
    *,
    factor: torch.Tensor | None = None,
    rank: int = 0,
    input_scale: float = 0.02,
) -> QuantLinear:
    """A linear in this format, its weight pruned by magnitude where that is sparse."""
    weight = linear.weight.detach()
    if layer_format.sparse:
        weight = weight * magnitude_mask(weight.float())
    branch = LowRank(torch.randn(len(weight), rank), torch.randn(rank, weight.shape[1])) if rank else None
    tensors = pack_linear(
        weight if layer_format.scheme.weights is None else weight.float(),
        layer_format,
        input_scale=torch.tensor([input_scale]) if layer_format.scheme.has_static_input else None,
        pre_quant_scale=factor,
        low_rank=branch,
    )
    return quantized(linear, layer_format, tensors)


def made(label: str, n: int, k: int, *, smoothed: bool = False, dtype: torch.dtype = torch.float32) -> QuantLinear:
    """A seeded layer."""
    torch.manual_seed(0)
    return packed(nn.Linear(k, n, dtype=dtype), LAYER_FORMATS[label], factor=torch.rand(k) + 0.5 if smoothed else None)


def same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    """In names, their order, shapes, dtypes and every bit."""
    return list(found) == list(expected) and all(
        (a.shape, a.dtype) == (b.shape, b.dtype)
        and torch.equal(*(x.contiguous().view(torch.uint8) if x.itemsize == 1 else x for x in (a, b)))
        for a, b in zip(found.values(), expected.values(), strict=True)
    )
