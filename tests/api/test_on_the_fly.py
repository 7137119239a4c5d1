"""A recipe without data, applied while diffusers loads; and back to plain layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import PipelineQuantizationConfig, WanPipeline, WanTransformer3DModel
from torch import nn

import quant
import quant.diffusers
from quant.layers.dequantize import dequantize_layers
from quant.layers.replace import quantized_layers
from tests import tiny_pipeline
from tests.layers.fused.layer_formats import LAYER_FORMATS, packed, same
from tests.layers.test_conv import CONVOLUTIONS, build
from tests.layers.test_conv import FORMATS as CONV_FORMATS
from tests.layers.test_group_offload import call


def test_as_it_is_quantized_in_memory(tmp_path: Path) -> None:
    tiny_pipeline.pipeline().save_pretrained(tmp_path / "wan")
    original = WanTransformer3DModel.from_pretrained(tmp_path / "wan/transformer", dtype=torch.bfloat16)
    expected = quant.quantize(original, "fp8-dynamic")
    config = quant.diffusers.QuantConfig("fp8-dynamic")
    made: Any = WanTransformer3DModel.from_pretrained(
        tmp_path / "wan/transformer", dtype=torch.bfloat16, quantization_config=config
    )
    assert same(made.state_dict(), expected.state_dict())
    assert torch.equal(call(made), call(expected))
    pipe = WanPipeline.from_pretrained(
        tmp_path / "wan",
        dtype=torch.bfloat16,
        quantization_config=PipelineQuantizationConfig(quant_mapping={"transformer": config}),
    )
    assert same(pipe.transformer.state_dict(), expected.state_dict())
    made.save_pretrained(tmp_path / "saved")
    quant.save(pipe.transformer, tmp_path / "ours")
    for again in (WanTransformer3DModel.from_pretrained(tmp_path / "saved"), quant.load(tmp_path / "ours")):
        assert same(again.state_dict(), expected.state_dict())
    plain = made.dequantize()
    assert plain is made
    assert not quantized_layers(plain)
    assert (call(plain).float() - call(expected).float()).norm() < 0.05 * call(expected).float().norm()
    plain.save_pretrained(tmp_path / "plain")
    back: Any = WanTransformer3DModel.from_pretrained(tmp_path / "plain", dtype=torch.bfloat16)
    assert torch.equal(call(back), call(plain))
    assert not quantized_layers(back)


def test_a_recipe_that_needs_data() -> None:
    with pytest.raises(quant.QuantError, match=r"w4a16-gptq: needs calibration data, and from_pretrained has none"):
        quant.diffusers.QuantConfig("w4a16-gptq")
    with pytest.raises(quant.QuantError, match="nothing"):
        quant.diffusers.QuantConfig("nothing")


@pytest.mark.parametrize("name", LAYER_FORMATS)
def test_a_plain_layer_has_what_the_codes_mean(name: str) -> None:
    torch.manual_seed(0)
    layer = packed(nn.Linear(256, 128), LAYER_FORMATS[name], factor=torch.rand(256) + 0.5, rank=0)
    net = nn.ModuleDict({"layer": layer})
    meant = layer.dequantized(layer.held())
    dequantize_layers(net, torch.float32)
    assert type(net["layer"]) is nn.Linear
    assert torch.equal(net["layer"].weight, meant)
    assert torch.equal(net["layer"].bias, layer.bias)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", CONVOLUTIONS)
def test_a_plain_convolution(window: str) -> None:
    conv, shape = CONVOLUTIONS[window]
    layer, meant = build(conv, CONV_FORMATS["W8A8 + rank 3"])
    net = nn.ModuleDict({"layer": layer})
    dequantize_layers(net, torch.float32)
    torch.testing.assert_close(net["layer"].weight, meant)
    x = torch.randn(shape)
    assert (net["layer"](x) - layer(x)).norm() < 0.03 * layer(x).norm()


def test_what_is_not_dequantized(tmp_path: Path) -> None:
    model = quant.quantize(tiny_pipeline.transformer(), "fp8-dynamic")
    quant.save(model, tmp_path / "made")
    fused: Any = quant.load(tmp_path / "made", fused=True)
    with pytest.raises(quant.QuantError, match="fused blocks are not dequantized"):
        fused.dequantize()
    assert quantized_layers(fused)
