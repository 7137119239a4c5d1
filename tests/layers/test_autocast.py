"""A quantized layer follows `torch.autocast` as nn.Linear does."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.layers.fused.linear import FusedLinear
from tests.layers.test_layer_formats import K, N, build


@pytest.mark.parametrize("name", ["W8A8", "W8A16", "W4A16", "FP8_BLOCK"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_its_output_is_what_a_cast_input_gives(name: str, dtype: torch.dtype) -> None:
    layer, _ = build(LayerFormat(SCHEMES[name]))
    x, linear = torch.randn(3, K), nn.Linear(K, N)
    plain, cast = layer(x), layer(x.to(dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        assert layer(x).dtype == linear(x).dtype == dtype
        assert torch.equal(layer(x), cast)
        assert torch.equal(FusedLinear.of(layer)(x), cast) == (layer.scheme.input_activations is None)
        assert FusedLinear.of(layer)(x).dtype == dtype
        # The stream that a block adds to keeps its dtype, as in diffusers.
        assert FusedLinear.of(layer)(x, residual=torch.zeros(3, N)).dtype == torch.float32
        with torch.autocast("cpu", enabled=False):
            assert torch.equal(layer(x), plain)
    assert layer(x).dtype == torch.float32


def test_its_gradient_has_the_dtype_of_the_input() -> None:
    layer, _ = build(LayerFormat(SCHEMES["W8A8"]))
    x = torch.randn(3, K, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
    out.sum().backward()
    assert x.grad is not None
    held = layer.held()
    expected = layer.dequantized(held).sum(0)
    assert x.grad.dtype == torch.float32
    torch.testing.assert_close(x.grad[0], expected, rtol=0.05, atol=0.05)


def test_meta_tensors_have_no_autocast() -> None:
    layer, _ = build(LayerFormat(SCHEMES["W8A8"]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.to("meta")(torch.empty(3, K, device="meta")).dtype == torch.float32
