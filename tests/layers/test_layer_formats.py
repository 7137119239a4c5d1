"""A layer of every format computes what its tensors mean, keeps its state, and survives what models are put through."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from quant.algorithms.sparse24 import magnitude_mask
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.tensors import LowRank, pack_linear, tensor_layout, unpack_linear
from quant.layers.linear import QuantLinear
from tests.layers.quantized import quantized

N, K = 40, 256
ODD = Scheme.parse({"weights": {"num_bits": 4, "type": "int", "strategy": "channel", "symmetric": False}})
LAYER_FORMATS = [
    *(LayerFormat(scheme) for scheme in SCHEMES.values() if scheme.weights is not None),
    *(LayerFormat(SCHEMES[name], sparse=True) for name in ("UNQUANTIZED", "W8A8", "FP8", "FP8_DYNAMIC")),
    LayerFormat(ODD),
    LayerFormat(SCHEMES["W4A16"], rank=4),
    LayerFormat(SCHEMES["W4A16"], smoothed=True, rank=4),
    LayerFormat(SCHEMES["W4A8"], smoothed=True),
]
every_format = pytest.mark.parametrize(
    "layer_format", LAYER_FORMATS, ids=lambda layer_format: layer_format.label + "+" * layer_format.smoothed
)


def build(layer_format: LayerFormat, dtype: torch.dtype = torch.float32) -> tuple[QuantLinear, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    linear = nn.Linear(K, N).to(dtype)
    weight = linear.weight.detach()
    weight = weight * magnitude_mask(weight) if layer_format.sparse else weight
    beside: dict[str, Any] = {}
    if layer_format.scheme.has_static_input:
        beside["input_scale"] = torch.tensor([0.01])
    if layer_format.smoothed:
        beside["pre_quant_scale"] = torch.rand(K) + 0.5
    if layer_format.rank:
        beside["low_rank"] = LowRank(
            0.1 * torch.randn(N, layer_format.rank).to(dtype), torch.randn(layer_format.rank, K).to(dtype)
        )
    tensors = pack_linear(weight, layer_format, **beside)
    return quantized(linear, layer_format, tensors), tensors


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return list(a) == list(b) and all(
        a[key].dtype == b[key].dtype and torch.equal(a[key].float(), b[key].float()) for key in a
    )


@every_format
def test_it_multiplies_by_the_weight_that_is_stored(layer_format: LayerFormat) -> None:
    layer, tensors = build(layer_format)
    x = torch.randn(2, 9, K)
    assert layer.bias is not None
    exact = x.double() @ unpack_linear(tensors, layer_format).double().T + layer.bias
    inputs = layer_format.scheme.input_activations
    # Half a step of a uniform input's code, as a part of the output: about 0.3% of INT8, 2.5% of FP8.
    bound = 1e-5 if inputs is None else 0.012 if inputs.type == "int" else 0.04
    assert (layer(x) - exact).norm() / exact.norm() < bound
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(layer(x[0]), layer(x)[0])
    torch.testing.assert_close(layer(x[0, 0]), layer(x)[0, 0])


@every_format
def test_its_state_is_what_was_packed(layer_format: LayerFormat) -> None:
    layer, tensors = build(layer_format)
    state = {key: value for key, value in layer.state_dict().items() if key != "bias"}
    assert state.keys() == tensors.keys() == tensor_layout(layer_format, N, K).keys()
    assert same(dict(sorted(state.items())), dict(sorted(tensors.items())))
    other = QuantLinear(K, N, layer_format, dtype=torch.float32, device="meta").to_empty(device="cpu")
    other.load_state_dict(layer.state_dict())
    x = torch.randn(3, K)
    assert torch.equal(other(x), layer(x))
    assert same(other.state_dict(), layer.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_state_dict({**layer.state_dict(), "bias": torch.zeros(N + 1)})
    assert not any(parameter.requires_grad for parameter in layer.parameters())


@every_format
def test_copies_moves_and_casts(layer_format: LayerFormat) -> None:
    layer, _ = build(layer_format)
    x = torch.randn(3, K)
    before = layer.state_dict()
    duplicate = copy.deepcopy(layer)
    assert torch.equal(duplicate(x), layer(x)) and same(duplicate.state_dict(), before)
    half = copy.deepcopy(layer).to(torch.bfloat16)
    layout = tensor_layout(layer_format, N, K)
    for key, tensor in half.state_dict().items():
        follows = key == "bias" or layout[key][0] is None
        assert tensor.dtype == (torch.bfloat16 if follows else before[key].dtype)
        assert follows or torch.equal(tensor.float(), before[key].float())
    assert half(x.bfloat16()).dtype == torch.bfloat16
    nowhere = copy.deepcopy(layer).to("meta")
    assert {key: (t.shape, t.dtype) for key, t in nowhere.state_dict().items()} == {
        key: (t.shape, t.dtype) for key, t in before.items()
    }


@every_format
def test_it_falls_under_one_graph(layer_format: LayerFormat) -> None:
    layer, _ = build(layer_format)
    whole = torch.compile(layer, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 5, K)
    assert torch.equal(whole(x), layer(x))
