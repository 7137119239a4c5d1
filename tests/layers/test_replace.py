"""Layers are found and replaced by name, at any depth."""

import torch
from torch import nn

from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.layers.kinds import quantizable
from quant.layers.linear import QuantLinear
from quant.layers.replace import insert_empty_layers, quantized_layers


def test_empty_layers_take_the_place_of_linears_and_allocate_nothing() -> None:
    model = nn.Sequential(nn.Linear(8, 6), nn.ModuleDict({"inner": nn.Linear(6, 4, bias=False)}), nn.Conv1d(1, 1, 1))
    model.eval()
    assert list(quantizable(model)) == ["0", "1.inner", "2"]
    insert_empty_layers(model, {"1.inner": LayerFormat(SCHEMES["FP8"])})
    (layer,) = quantized_layers(model).values()
    assert isinstance(layer, QuantLinear)
    assert (layer.in_features, layer.out_features, layer.bias, layer.training) == (6, 4, None, False)
    assert all(tensor.device == torch.device("meta") for tensor in layer.state_dict().values())
    assert list(quantizable(model)) == ["0", "2"]
    assert list(quantized_layers(model)) == ["1.inner"]
