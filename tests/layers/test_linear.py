"""The quantized Linear computes what its tensors mean."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quant.formats.eight_bit import storage_dtype
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import pack_linear, tensor_layout
from quant.kernels.numerics import encode
from quant.layers.linear import QuantLinear
from tests.layers.quantized import quantized

W8A8 = LayerFormat(SCHEMES["W8A8"])
EIGHT_BIT = ("FP8_DYNAMIC", "FP8", "W8A8")


def build(name: str, smoothed: bool, bias: bool) -> tuple[nn.Linear, QuantLinear, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    linear, layer_format = nn.Linear(77, 33, bias=bias), LayerFormat(SCHEMES[name])
    tensors = pack_linear(
        linear.weight.detach(),
        layer_format,
        input_scale=torch.tensor([0.02]) if layer_format.scheme.has_static_input else None,
        pre_quant_scale=torch.rand(77) + 0.5 if smoothed else None,
    )
    return linear, quantized(linear, layer_format, tensors), tensors


@pytest.mark.parametrize("name", EIGHT_BIT)
@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_forward_written_out(name: str, smoothed: bool, bias: bool) -> None:
    linear, layer, tensors = build(name, smoothed, bias)
    x = torch.randn(2, 5, 77)
    scaled = x * tensors["pre_quant_scale"] if smoothed else x
    tensor_format = SCHEMES[name].weights
    assert tensor_format is not None
    dtype = storage_dtype(tensor_format)
    largest = 127 if dtype == torch.int8 else 448
    step = tensors.get("input_scale", scaled.abs().amax(-1, keepdim=True) / largest)
    codes = encode(scaled, step, dtype).double()
    expected = (codes @ tensors["weight"].double().T) * step * tensors["weight_scale"].reshape(-1)
    expected = expected if linear.bias is None else expected + linear.bias
    with torch.no_grad():
        assert torch.allclose(layer(x).double(), expected.double(), rtol=1e-5, atol=1e-5)
        assert layer(x.to(torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_state_is_the_layout_that_packing_declares(name: str) -> None:
    _, layer, _ = build(name, True, True)
    state = layer.state_dict()
    layout = tensor_layout(LayerFormat(SCHEMES[name], smoothed=True), 33, 77)
    assert {key: (t.dtype, tuple(t.shape)) for key, t in state.items() if key != "bias"} == layout
    empty = QuantLinear(77, 33, LayerFormat(SCHEMES[name], smoothed=True), device="meta")
    assert {key: (t.dtype, t.shape) for key, t in empty.state_dict().items()} == {
        key: (t.dtype, t.shape) for key, t in state.items()
    }
    assert not any(parameter.requires_grad for parameter in layer.parameters())


def test_casts_spare_packed_tensors_and_moves_do_not() -> None:
    _, layer, tensors = build("FP8_DYNAMIC", True, True)
    layer.half().double().to(torch.bfloat16)
    for leaf, tensor in tensors.items():
        held = getattr(layer, leaf)
        assert held.dtype == tensor.dtype
        assert torch.equal(held, tensor)
    assert layer.bias is not None
    assert layer.bias.dtype == torch.bfloat16
    assert all(tensor.is_meta for tensor in layer.to("meta").state_dict().values())


def test_layers_given_one_factor_hold_a_copy_each() -> None:
    factor = torch.rand(77) + 0.5
    layers = []
    for _ in range(2):
        linear = nn.Linear(77, 33)
        tensors = pack_linear(linear.weight.detach(), W8A8, pre_quant_scale=factor)
        layers.append(quantized(linear, W8A8, tensors))
    pointers = {layer.pre_quant_scale.data_ptr() for layer in layers if layer.pre_quant_scale is not None}
    assert len(pointers) == 2


def test_what_it_says_of_itself() -> None:
    _, layer, _ = build("W8A8", True, False)
    assert repr(layer) == "QuantLinear(in_features=77, out_features=33, bias=False, scheme=W8A8, smoothed)"
