"""A fused layer, and a whole fused block, have the gradient of what they are the fused version of."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from quant.kernels.ops import Norm
from quant.layers.fused.linear import FusedLinear
from quant.layers.straight_through import straight_through
from tests.layers.fused.layer_formats import made
from tests.layers.fused.wan_blocks import fused as fused_block
from tests.layers.fused.wan_blocks import inputs, is_wide, quantized, relative_error

K, N = 256, 128


@pytest.mark.parametrize("label", ["W8A8", "FP8", "FP8_BLOCK", "W4A16", "2:4 W8A8"])
def test_a_fused_layer_passes_it_to_everything_around_it(label: str) -> None:
    layer = made(label, N, K, smoothed=True)
    fused = FusedLinear.of(layer)
    shapes = {"x": (2, 5, K), "weight": (K,), "bias": (K,), "scale": (2, 1, K), "shift": (2, 1, K)}
    shapes |= {"residual": (2, 5, N), "gate": (2, 1, N)}
    torch.manual_seed(2)
    given = {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}
    x, weight, bias, scale, shift, residual, gate = given.values()

    def run() -> torch.Tensor:
        norm = Norm("layer", weight, bias, 1e-5)
        out: torch.Tensor = fused(
            x, norm=norm, modulation=(scale, shift), activation="gelu_tanh", residual=residual, gate=gate
        )
        return out

    with torch.no_grad():
        plain = run()
    out = run()
    torch.testing.assert_close(out, plain, rtol=1e-6, atol=1e-6)
    by = torch.randn(out.shape)
    found = torch.autograd.grad(out, tuple(given.values()), by)
    # The same written out: the product's value is that of the codes, its slope that of the weight they mean.
    y = F.layer_norm(x, (K,), weight, bias, 1e-5) * (1 + scale) + shift
    sums = straight_through(layer, y, layer.bias, None, torch.float32, torch.float32)
    expected = torch.autograd.grad(residual + gate * F.gelu(sums, approximate="tanh"), tuple(given.values()), by)
    for name, a, b in zip(given, found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=name)


def test_codes_carry_none() -> None:
    fused = FusedLinear.of(made("W8A8", N, K))
    x = torch.randn(2, 5, K, requires_grad=True)
    with pytest.raises(ValueError, match="codes carry no gradient"):
        fused(x, out_dtype=torch.int8, out_scale=torch.ones(1))


@pytest.mark.parametrize("label", ["W8A8", "FP8", "W4A16"])
def test_a_fused_block_has_that_of_diffusers_block(label: str) -> None:
    block = quantized(label)
    fused = fused_block(block)
    given = inputs(wide=is_wide(label))
    leaves = [
        given.hidden_states.requires_grad_(),
        given.temb.requires_grad_(),
        given.encoder_hidden_states.requires_grad_(),
    ]
    by = torch.randn(given.hidden_states.shape, generator=torch.Generator().manual_seed(3))
    expected = torch.autograd.grad(block(*given), leaves, by)
    out = fused(*given)
    with torch.no_grad():
        torch.testing.assert_close(out, fused(*given), rtol=1e-5, atol=1e-5)
    for found, each in zip(torch.autograd.grad(out, leaves, by), expected, strict=True):
        assert relative_error(found, each) < 1e-3


def test_a_fused_block_compiles_with_it() -> None:
    fused, given = fused_block(quantized("FP8")), inputs()
    x = given.hidden_states.requires_grad_()
    (expected,) = torch.autograd.grad(fused(*given).sum(), x)
    compiled = torch.compile(fused, fullgraph=True, backend="aot_eager")
    assert relative_error(torch.autograd.grad(compiled(*given).sum(), x)[0], expected) < 1e-3
