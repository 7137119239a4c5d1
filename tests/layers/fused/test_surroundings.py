"""What is fused into a layer against what diffusers does beside it: equal within bounds derived from their roundings.

In bf16 the unfused way rounds the normed input and the layer's output, each by at most U = 2**-8 of itself; the fused
way does not. A quantized input differs from what it stands for by half its step; one that is not quantized is rounded
in both ways alike.
"""

from __future__ import annotations

import pytest
import torch
from diffusers.models.normalization import FP32LayerNorm
from torch import nn

from quant.formats.tensors import unpack_linear
from quant.kernels import ops
from quant.layers.fused.linear import FusedLinear
from quant.layers.fused.part import FUSED
from quant.layers.fused.surroundings import FusedNorm, enter, fuse_layer, leave, normed
from quant.layers.linear import QuantLinear
from tests.layers.fused.layer_formats import BY_ROW, made

K, N = 72, 40
U = 2.0**-8


def layer(scheme: str, *, smoothed: bool = False) -> QuantLinear:
    return made(scheme, N, K, smoothed=smoothed, dtype=torch.bfloat16).eval()


def norm(affine: bool) -> FP32LayerNorm:
    made = FP32LayerNorm(K, 1e-6, elementwise_affine=affine)
    if affine:
        nn.init.normal_(made.weight, mean=1, std=0.3)
        nn.init.normal_(made.bias, std=0.3)
    return made.requires_grad_(False)


def modulation() -> tuple[torch.Tensor, torch.Tensor]:
    return 0.5 * torch.randn(2, 1, K), 0.5 * torch.randn(2, 1, K)


@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("affine", [False, True])
def test_entering_differs_by_half_steps_and_one_rounding(affine: bool, smoothed: bool) -> None:
    apart, before = layer("W8A8", smoothed=smoothed), norm(affine)
    fused, x, by = FusedLinear.of(apart), torch.randn(2, 50, K).bfloat16(), modulation()
    found = enter(fused, x, FusedNorm(before), by).float()
    expected = enter(apart, x, before, by).float()
    factor = 1 if apart.pre_quant_scale is None else apart.pre_quant_scale
    value = (before(x.float()) * (1 + by[0]) + by[1]) * factor
    # Both steps: the largest of a row, which the unfused one may have rounded up, over 127.
    step = value.abs().amax(-1, keepdim=True) / 127 * (1 + U)
    apart_by = step + U * value.abs()
    weight = (apart.weight.float() * apart.weight_scale).abs()
    bound = apart_by @ weight.T + U * (found.abs() + expected.abs())
    assert ((found - expected).abs() <= bound).all()
    assert not torch.equal(found, expected)
    assert torch.equal(expected, apart(normed(x, before, by)).float())


@pytest.mark.parametrize("scheme", ["2:4", BY_ROW])
@pytest.mark.parametrize("affine", [False, True])
def test_entering_without_quantization_is_what_diffusers_does(scheme: str, affine: bool) -> None:
    apart, before, by = layer(scheme), norm(affine), modulation()
    fused, x = FusedLinear.of(apart), torch.randn(2, 50, K).bfloat16()
    assert torch.equal(enter(fused, x, FusedNorm(before), by), apart(normed(x, before, by)))


@pytest.mark.parametrize("scheme", ["FP8_DYNAMIC", "FP8", "W8A8"])
@pytest.mark.parametrize("affine", [False, True])
def test_entering_quantizes_closer_to_the_exact_input(scheme: str, affine: bool) -> None:
    dtype, before, by = layer(scheme).weight.dtype, norm(affine), modulation()
    x, scale = torch.randn(2, 500, K).bfloat16(), layer(scheme).input_scale
    wide = x.double()
    wide = (wide - wide.mean(-1, keepdim=True)) / (wide.var(-1, correction=0, keepdim=True) + before.eps).sqrt()
    if affine:
        wide = wide * before.weight + before.bias
    exact = wide * (1 + by[0]) + by[1]

    def error(found: tuple[torch.Tensor, torch.Tensor]) -> float:
        return float((found[0].double() * found[1] - exact).square().mean())

    fused = error(ops.quantize_rows(x, dtype, scale=scale, norm=FusedNorm(before).operand, modulation=by))
    apart = error(ops.quantize_rows(normed(x, before, by), dtype, scale=scale))
    assert fused < apart


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("scheme", ["FP8_DYNAMIC", "FP8", "W8A8", BY_ROW, "2:4", "2:4 FP8", "2:4 W8A8"])
def test_leaving_rounds_once(scheme: str, gated: bool) -> None:
    apart = layer(scheme)
    fused = FusedLinear.of(apart)
    x, residual = torch.randn(2, 50, K).bfloat16(), torch.randn(2, 50, N).bfloat16()
    gate = torch.randn(2, 1, N) if gated else None
    assert apart.bias is not None
    tensors = {key: value for key, value in apart.state_dict().items() if key != "bias"}
    weight = unpack_linear(tensors, apart.layer_format)
    if fused.codes is None:
        out = x.double() @ weight.bfloat16().double().T + apart.bias  # a weight is rounded to its input's dtype
    else:
        codes, scale = ops.quantize_rows(x, fused.codes, scale=apart.input_scale)
        out = (codes.double() * scale) @ weight.double().T + apart.bias
    exact = residual + (1 if gate is None else gate) * out
    found, expected = leave(fused, x, residual, gate), leave(apart, x, residual, gate)
    assert (found.dtype, expected.dtype) == (torch.bfloat16, torch.bfloat16)
    wrong, wrong_apart = (found - exact).abs(), (expected - exact).abs()
    sums = 1e-4  # of float32 in both
    assert (wrong <= U * exact.abs() + sums).all()
    gated_out = (out if gate is None else gate * out).abs()
    assert (wrong_apart <= U * exact.abs() + 1.01 * U * gated_out + sums).all()
    assert wrong.square().sum() < 0.8 * wrong_apart.square().sum()


@pytest.mark.parametrize("scheme", ["FP8_DYNAMIC", "FP8", "W8A8", BY_ROW, "2:4", "2:4 FP8", "2:4 W8A8"])
def test_in_float32_both_are_the_same_but_for_the_last_bits(scheme: str) -> None:
    apart, before = layer(scheme), norm(False)
    apart.bias = nn.Parameter(apart.bias.float(), requires_grad=False)  # type: ignore[union-attr]
    fused, x, by = FusedLinear.of(apart), torch.randn(2, 50, K), modulation()
    gate, residual = torch.randn(2, 1, N), torch.randn(2, 50, N)
    assert torch.allclose(enter(fused, x, FusedNorm(before), by), enter(apart, x, before, by), rtol=0, atol=1e-5)
    assert torch.allclose(leave(fused, x, residual, gate), leave(apart, x, residual, gate), rtol=0, atol=1e-5)


def test_a_norm_keeps_its_parameters_and_the_lack_of_one() -> None:
    affine, bare, none = FusedNorm(norm(True)), FusedNorm(norm(False)), FusedNorm(nn.Identity())
    assert list(affine.state_dict()) == ["weight", "bias"]
    assert affine.operand == ("layer", affine.weight, affine.bias, 1e-6)
    assert bare.operand == ("layer", None, None, 1e-6)
    assert none.operand is None
    assert not bare.state_dict()


def test_a_plain_layer_is_left_where_it_is() -> None:
    model = nn.ModuleDict({"a": nn.Linear(K, N), "b": layer("W8A8"), "c": layer("2:4")})
    plain = model["a"]
    assert fuse_layer(model, "a") == "a is not quantized"
    assert model["a"] is plain
    assert fuse_layer(model, "b") == FUSED
    assert fuse_layer(model, "c") == FUSED
    assert isinstance(model["b"], FusedLinear)
    assert isinstance(model["c"], FusedLinear)
