"""Layers with 2:4 and 4-bit weights: on the GPU by the kernels, with the weight in their order, as on the CPU."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import pack_linear
from quant.kernels.dispatch import only
from quant.kernels.matmuls import quantize_rows as rows_host
from quant.layers.linear import QuantLinear
from tests.gpu.packed import DEVICE, PACKED, SPARSE, names, with_dtypes
from tests.kernels.matmul_cases import FP8
from tests.kernels.weight_cases import weight_24
from tests.layers.quantized import quantized

CPU = torch.device("cpu")
LAYER_FORMATS = [
    *(LayerFormat(SCHEMES[name]) for name in ("W4A16", "W4A16_ASYM", "W4A8", "W4AFP8")),
    *(LayerFormat(SCHEMES[name], sparse=True) for name in ("W8A8", "FP8_DYNAMIC", "UNQUANTIZED")),
]


def runs(layer_format: LayerFormat) -> bool:
    """Has this GPU a kernel for the layer's input? Not every one has FP8."""
    inputs = layer_format.scheme.input_activations
    wanted = inputs is not None and inputs.type == "float"
    return not wanted or any(dtype == FP8 for _, dtype in with_dtypes(SPARSE if layer_format.sparse else PACKED))


def layer_of(layer_format: LayerFormat, device: torch.device, n: int = 96, k: int = 256) -> QuantLinear:
    linear = nn.Linear(k, n).to(torch.bfloat16)
    if layer_format.sparse:
        generator = torch.Generator().manual_seed(1)
        linear.weight = nn.Parameter(weight_24(n, k, torch.bfloat16, generator) / 640)
    return quantized(linear, layer_format, pack_linear(linear.weight.detach(), layer_format), device)


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.cpu().view(torch.uint8) if x.itemsize == 1 else x.cpu()


@pytest.mark.parametrize("m", [7, 66])
@pytest.mark.parametrize(
    "layer_format",
    [each for each in LAYER_FORMATS if runs(each)],
    ids=lambda layer_format: layer_format.label,
)
def test_a_layer_on_the_gpu_is_the_layer_on_the_cpu(layer_format: LayerFormat, m: int) -> None:
    layer = layer_of(layer_format, CPU)
    x = torch.randn(m, 256).bfloat16()
    expected, state = layer(x), {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    plain = layer.layout
    layer.to(DEVICE)
    assert layer.layout != plain
    with only(*names(), rows_host.QUANTIZE_ROWS.name):
        found = layer(x.to(DEVICE)).cpu()
    # The last place of a bf16 result, where float32 sums are added in another order or FP8's lose bits.
    assert (found - expected).float().norm() <= 4e-3 * expected.float().norm()
    if layer_format.sparse and layer_format.scheme.name == "W8A8":
        assert torch.equal(found, expected)
    assert all(torch.equal(bits(tensor), bits(state[name])) for name, tensor in layer.state_dict().items())
    assert torch.equal(layer.to("cpu")(x), expected)


def test_a_layer_of_four_bits_takes_less_than_a_third() -> None:
    """Of its bf16 weight, with scales and whatever the order needs."""
    layer = layer_of(LayerFormat(SCHEMES["W4A16"]), DEVICE, 1024, 5120)
    assert sum(tensor.nbytes for tensor in layer.held().values()) <= 0.30 * 2 * 1024 * 5120


def test_a_layer_compiles_into_one_graph_with_other_layers_kernels() -> None:
    layers = nn.Sequential(*(layer_of(each, DEVICE, 256, 256) for each in LAYER_FORMATS if runs(each)))
    x = torch.randn(2, 20, 256, device=DEVICE).bfloat16()
    assert torch.equal(torch.compile(layers, fullgraph=True)(x), layers(x))
