"""A layer of every form computes what its tensors mean, keeps its state, and survives what models are put through."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from quant.algorithms.sparse24 import magnitude_mask
from quant.formats.layer import LayerForm
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.tensors import LowRank, pack_linear, tensor_layout, unpack_linear
from quant.layers.linear import QuantLinear
from tests.layers.quantized import quantized

N, K = 40, 256
ODD = Scheme.parse({"weights": {"num_bits": 4, "type": "int", "strategy": "channel", "symmetric": False}})
FORMS = [
    *(LayerForm(scheme) for scheme in SCHEMES.values() if scheme.weights is not None),
    *(LayerForm(SCHEMES[name], sparse=True) for name in ("UNQUANTIZED", "W8A8", "FP8", "FP8_DYNAMIC")),
    LayerForm(ODD),
    LayerForm(SCHEMES["W4A16"], rank=4),
    LayerForm(SCHEMES["W4A16"], smoothed=True, rank=4),
    LayerForm(SCHEMES["W4A8"], smoothed=True),
]
every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.label + "+" * form.smoothed)


def build(form: LayerForm, dtype: torch.dtype = torch.float32) -> tuple[QuantLinear, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    linear = nn.Linear(K, N).to(dtype)
    weight = linear.weight.detach()
    weight = weight * magnitude_mask(weight) if form.sparse else weight
    beside: dict[str, Any] = {}
    if form.scheme.has_static_input:
        beside["input_scale"] = torch.tensor([0.01])
    if form.smoothed:
        beside["pre_quant_scale"] = torch.rand(K) + 0.5
    if form.rank:
        beside["low_rank"] = LowRank(0.1 * torch.randn(N, form.rank).to(dtype), torch.randn(form.rank, K).to(dtype))
    tensors = pack_linear(weight, form, **beside)
    return quantized(linear, form, tensors), tensors


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(
        a[key].dtype == b[key].dtype and torch.equal(a[key].float(), b[key].float()) for key in a
    )


@every_form
def test_it_multiplies_by_the_weight_that_is_stored(form: LayerForm) -> None:
    layer, tensors = build(form)
    x = torch.randn(2, 9, K)
    assert layer.bias is not None
    exact = x.double() @ unpack_linear(tensors, form).double().T + layer.bias
    inputs = form.scheme.input_activations
    # Half a step of a uniform input's code, as a part of the output: about 0.3% of INT8, 2.5% of FP8.
    bound = 1e-5 if inputs is None else 0.012 if inputs.type == "int" else 0.04
    assert (layer(x) - exact).norm() / exact.norm() < bound
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(layer(x[0]), layer(x)[0])
    torch.testing.assert_close(layer(x[0, 0]), layer(x)[0, 0])


@every_form
def test_its_state_is_what_was_packed(form: LayerForm) -> None:
    layer, tensors = build(form)
    state = {key: value for key, value in layer.state_dict().items() if key != "bias"}
    assert state.keys() == tensors.keys() == tensor_layout(form, N, K).keys()
    assert same(dict(sorted(state.items())), dict(sorted(tensors.items())))
    other = QuantLinear(K, N, form, dtype=torch.float32, device="meta").to_empty(device="cpu")
    other.load_state_dict(layer.state_dict())
    x = torch.randn(3, K)
    assert torch.equal(other(x), layer(x))
    assert same(other.state_dict(), layer.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict({**layer.state_dict(), "bias": torch.zeros(N + 1)})
    assert not [name for name, _ in layer.named_parameters() if name != "bias"]


@every_form
def test_copies_moves_and_casts(form: LayerForm) -> None:
    layer, _ = build(form)
    x = torch.randn(3, K)
    before = layer.state_dict()
    duplicate = copy.deepcopy(layer)
    assert torch.equal(duplicate(x), layer(x)) and same(duplicate.state_dict(), before)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    layout = tensor_layout(form, N, K)
    for key, tensor in half.state_dict().items():
        follows = key == "bias" or layout[key][0] is None
        assert tensor.dtype == (torch.bfloat16 if follows else before[key].dtype)
        assert follows or torch.equal(tensor.float(), before[key].float())
    assert half(x.bfloat16()).dtype == torch.bfloat16
    nowhere = copy.deepcopy(layer).to("meta")
    assert {key: (t.shape, t.dtype) for key, t in nowhere.state_dict().items()} == {
        key: (t.shape, t.dtype) for key, t in before.items()
    }


@every_form
def test_it_falls_under_one_graph(form: LayerForm) -> None:
    layer, _ = build(form)
    whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 5, K)
    assert torch.equal(whole(x), layer(x))
