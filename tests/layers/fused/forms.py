"""Packed layers of every form that a fused block holds, by the form's label."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from quant.algorithms.sparse24 import magnitude_mask
from quant.formats.layer import LayerForm
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.tensors import LowRank, pack_linear
from quant.layers.linear import QuantLinear
from tests.layers.quantized import quantized

EIGHT_BIT = ("FP8_DYNAMIC", "FP8", "W8A8")
#: One scale a row, so that it fits any K; the zero points of eight rows are one word of a file.
_BY_ROW = Scheme.parse({"weights": {"num_bits": 4, "type": "int", "strategy": "channel", "symmetric": False}})
FORMS: dict[str, LayerForm] = {
    form.label: form
    for form in (
        *(LayerForm(scheme) for scheme in SCHEMES.values() if scheme.weights is not None),
        LayerForm(_BY_ROW),
        *(LayerForm(SCHEMES[name], sparse=True) for name in ("UNQUANTIZED", *EIGHT_BIT)),
    )
}
BY_ROW = LayerForm(_BY_ROW).label
#: Those whose matmul reads the input as it comes.
OF_FLOATS = tuple(label for label, form in FORMS.items() if form.scheme.input_activations is None)


def packed(
    linear: nn.Linear, form: LayerForm, *, factor: torch.Tensor | None = None, rank: int = 0, input_scale: float = 0.02
) -> QuantLinear:
    """A linear in this form, its weight pruned by magnitude where that is sparse."""
    weight = linear.weight.detach()
    if form.sparse:
        weight = weight * magnitude_mask(weight.float())
    branch = LowRank(torch.randn(len(weight), rank), torch.randn(rank, weight.shape[1])) if rank else None
    tensors = pack_linear(
        weight if form.scheme.weights is None else weight.float(),
        form,
        input_scale=torch.tensor([input_scale]) if form.scheme.has_static_input else None,
        pre_quant_scale=factor,
        low_rank=branch,
    )
    return quantized(linear, form, tensors)


def made(label: str, n: int, k: int, *, smoothed: bool = False, dtype: torch.dtype = torch.float32) -> QuantLinear:
    """A seeded layer."""
    torch.manual_seed(0)
    return packed(nn.Linear(k, n, dtype=dtype), FORMS[label], factor=torch.rand(k) + 0.5 if smoothed else None)


def same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    """In names, their order, shapes, dtypes and every bit."""
    return list(found) == list(expected) and all(
        (a.shape, a.dtype) == (b.shape, b.dtype)
        and torch.equal(*(x.contiguous().view(torch.uint8) if x.itemsize == 1 else x for x in (a, b)))
        for a, b in zip(found.values(), expected.values(), strict=True)
    )
