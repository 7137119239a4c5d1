"""A fused layer is a `QuantLinear` with its surroundings: each of them against the layer and plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from quant.errors import ModelError
from quant.formats.layer import LayerFormat
from quant.kernels.layouts import aligned_rows
from quant.kernels.numerics import encode
from quant.kernels.ops import Norm
from quant.layers.fused.linear import FusedLinear, _normed, unfusable
from quant.layers.linear import QuantLinear
from tests.layers.fused.layer_formats import EIGHT_BIT, LAYER_FORMATS, OF_FLOATS, made, packed, same
from tests.layers.test_prepack import OfKernels

_FP8 = torch.float8_e4m3fn
N = 33
EVERY_FORMAT = pytest.mark.parametrize("label", LAYER_FORMATS)
SMOOTHED = pytest.mark.parametrize("smoothed", [False, True])


def width(label: str) -> int:
    """Not a multiple of 16 where anything fits: rows that kernels would pad."""
    return 77 if label in EIGHT_BIT else 256


def build(label: str, *, smoothed: bool = False) -> tuple[QuantLinear, FusedLinear]:
    layer = made(label, N, width(label), smoothed=smoothed)
    return layer, FusedLinear.of(layer)


@EVERY_FORMAT
@SMOOTHED
def test_alone_it_is_the_layer_and_has_its_tensors(label: str, smoothed: bool) -> None:
    layer, fused = build(label, smoothed=smoothed)
    x = torch.randn(2, 5, layer.in_features)
    assert torch.equal(fused(x), layer(x))
    assert same(fused.state_dict(), layer.state_dict())
    before, after = layer.held(), fused.held()
    assert list(before) == list(after)
    assert all(after[name] is tensor for name, tensor in before.items())
    assert fused.bias is layer.bias
    assert fused.training == layer.training


@EVERY_FORMAT
@SMOOTHED
def test_what_is_before_and_behind_it(label: str, smoothed: bool) -> None:
    layer, fused = build(label, smoothed=smoothed)
    k = layer.in_features
    x, residual, gate = torch.randn(2, 5, k), torch.randn(2, 5, N), torch.randn(2, 1, N)
    norm = Norm("layer", torch.rand(k), torch.rand(k), 1e-5)
    scale, shift = torch.randn(2, 1, k), torch.randn(2, 5, k)
    found = fused(x, norm=norm, modulation=(scale, shift), activation="gelu_tanh", residual=residual, gate=gate)
    inner = F.layer_norm(x, (k,), norm.weight, norm.bias, norm.eps) * (1 + scale) + shift
    expected = residual + gate * F.gelu(layer(inner), approximate="tanh")
    # A code may flip where the norm's own rounding differs: one step of one input.
    assert torch.allclose(found, expected, rtol=0, atol=1e-5 if label in OF_FLOATS else 2e-2)
    assert (found - expected).abs().mean() < 1e-4


@pytest.mark.parametrize("label", OF_FLOATS)
@SMOOTHED
def test_floats_are_normed_and_rounded_once(label: str, smoothed: bool) -> None:
    layer = made(label, N, 256, smoothed=smoothed, dtype=torch.bfloat16)
    fused = FusedLinear.of(layer)
    x, norm = torch.randn(2, 5, 256).bfloat16(), Norm("layer", torch.rand(256), torch.rand(256).bfloat16(), 1e-5)
    scale, shift = torch.randn(2, 1, 256), torch.randn(2, 1, 256)
    inner = F.layer_norm(x.float(), (256,), norm.weight, norm.bias.float(), norm.eps) * (1 + scale) + shift  # type: ignore[union-attr]
    factor, layer.pre_quant_scale = layer.pre_quant_scale, None
    expected = layer((inner if factor is None else inner * factor).bfloat16())
    assert torch.equal(fused(x, norm=norm, modulation=(scale, shift)), expected)
    assert _normed(x, None, None) is x  # no pass over memory where there is nothing to do
    with pytest.raises(ValueError, match="before a layer that reads floats a norm must be 'layer', got 'rms'"):
        fused(x, norm=Norm("rms"))


@pytest.mark.parametrize(
    ("label", "reads"),
    [("2:4 FP8_DYNAMIC", _FP8), ("W4A8", torch.int8), ("FP8_BLOCK", _FP8), ("W8A16", None), ("2:4", None)],
)
def test_what_its_matmul_reads(label: str, reads: torch.dtype | None) -> None:
    assert build(label)[1].codes == reads


def test_a_low_rank_branch_is_not_fused() -> None:
    layer = packed(torch.nn.Linear(256, N), LAYER_FORMATS["W4A16"], rank=4)
    assert unfusable(layer) == "is W4A16 + rank 4, and its branch stands where norm and residual would"
    assert all(unfusable(made(label, N, width(label))) is None for label in LAYER_FORMATS)


@pytest.mark.parametrize("label", ["FP8", "2:4 FP8"])
def test_codes_go_out_and_come_in(label: str) -> None:
    layer, fused = build(label)
    x, scale = torch.randn(3, layer.in_features), torch.tensor([0.01])
    codes = fused(x, out_dtype=torch.float8_e4m3fn, out_scale=scale)
    expected = encode(layer(x), scale, torch.float8_e4m3fn)
    assert codes.dtype == torch.float8_e4m3fn
    assert torch.equal(codes.view(torch.uint8), expected.view(torch.uint8))
    assert fused.input_scale is not None
    own = encode(x, fused.input_scale, torch.float8_e4m3fn)
    residual = torch.zeros(3, N)
    assert torch.equal(fused(own, residual=residual), layer(x))
    assert fused(own, residual=residual.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("label", ["W4AFP8", "2:4 FP8_DYNAMIC", "FP8_DYNAMIC", "FP8_BLOCK"])
def test_a_layer_that_finds_its_scale_writes_codes_by_anothers(label: str) -> None:
    layer, fused = build(label)
    x, scale = torch.randn(3, layer.in_features), torch.tensor([0.01])
    codes = fused(x, out_dtype=torch.float8_e4m3fn, out_scale=scale)
    expected = encode(layer(x), scale, torch.float8_e4m3fn)
    assert torch.equal(codes.view(torch.uint8), expected.view(torch.uint8))


@pytest.mark.parametrize(
    ("label", "smoothed"), [("W8A8", False), ("FP8_DYNAMIC", False), ("FP8", True), ("2:4 FP8", True), ("W4A8", False)]
)
def test_codes_are_refused_where_their_scale_is_not_the_layers(label: str, smoothed: bool) -> None:
    layer, fused = build(label, smoothed=smoothed)
    assert fused.codes is not None
    with pytest.raises(ValueError, match="codes as input need a layer with a static input_scale"):
        fused(torch.zeros(3, layer.in_features).to(fused.codes), out_dtype=torch.float32)


class OnGpu(FusedLinear):
    """Its weight is always in the order of the kernels."""

    def __init__(self, in_features: int, out_features: int, layer_format: LayerFormat, **rest: Any) -> None:
        super().__init__(in_features, out_features, layer_format, **rest)
        self.weight_format = OfKernels(layer_format.scheme)


def test_rows_as_the_kernels_read_them() -> None:
    layer, _ = build("W8A8")
    on_gpu = OnGpu.of(layer).prepack()
    assert on_gpu.layout == aligned_rows.NAME
    x = torch.randn(3, 77)
    assert torch.equal(on_gpu(x), layer(x))


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_are_refused(register: str) -> None:
    _, fused = build("W8A8")
    hook: Any = lambda *args: None  # noqa: E731
    with pytest.raises(ModelError, match="FusedLinear runs within a larger op and takes no hook; load without fused"):
        getattr(fused, register)(hook)


def test_what_it_says_of_itself_is_the_reason() -> None:
    _, fused = build("W8A8", smoothed=True)
    assert repr(fused) == (
        "FusedLinear(in_features=77, out_features=33, bias=True, scheme=W8A8, smoothed; "
        "load without fused=True for hooks and other processors)"
    )
