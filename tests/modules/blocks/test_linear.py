"""A fused layer is a `QuantLinear` with its surroundings: each of them against the layer and plain torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from quant.errors import ModelError
from quant.kernels.layouts import aligned_rows
from quant.kernels.numerics import encode
from quant.kernels.ops import Norm
from quant.modules.blocks.linear import FusedLinear
from quant.modules.linear import QuantLinear
from quant.packing.linear import pack_linear
from quant.scheme import SCHEMES

K, N = 77, 33
EIGHT_BIT = ("FP8_DYNAMIC", "FP8", "W8A8")


def build(name: str, *, smoothed: bool = False) -> tuple[QuantLinear, FusedLinear]:
    torch.manual_seed(0)
    linear, scheme = nn.Linear(K, N), SCHEMES[name]
    tensors = pack_linear(
        linear.weight.detach(),
        scheme,
        input_scale=torch.tensor([0.02]) if scheme.has_static_input else None,
        pre_quant_scale=torch.rand(K) + 0.5 if smoothed else None,
    )
    layer = QuantLinear.from_tensors(linear, scheme, tensors, torch.device("cpu"))
    return layer, FusedLinear.of(layer)


@pytest.mark.parametrize("name", EIGHT_BIT)
@pytest.mark.parametrize("smoothed", [False, True])
def test_alone_it_is_the_layer_and_has_its_state(name: str, smoothed: bool) -> None:
    layer, fused = build(name, smoothed=smoothed)
    x = torch.randn(2, 5, K)
    assert torch.equal(fused(x), layer(x))
    before, after = layer.state_dict(), fused.state_dict()
    assert list(before) == list(after)
    assert all(before[key].data_ptr() == after[key].data_ptr() for key in before)
    assert fused.training == layer.training


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_what_is_before_and_behind_it(name: str) -> None:
    layer, fused = build(name, smoothed=True)
    x, residual, gate = torch.randn(2, 5, K), torch.randn(2, 5, N), torch.randn(2, 1, N)
    norm = Norm("layer", torch.rand(K), torch.rand(K), 1e-5)
    scale, shift = torch.randn(2, 1, K), torch.randn(2, 5, K)
    found = fused(x, norm=norm, modulation=(scale, shift), activation="gelu_tanh", residual=residual, gate=gate)
    inner = F.layer_norm(x, (K,), norm.weight, norm.bias, norm.eps) * (1 + scale) + shift
    expected = residual + gate * F.gelu(layer(inner), approximate="tanh")
    # A code may flip where the norm's own rounding differs: one step of one input.
    assert torch.allclose(found, expected, rtol=0, atol=2e-2)
    assert (found - expected).abs().mean() < 1e-4


def test_codes_go_out_and_come_in() -> None:
    layer, fused = build("FP8")
    x, scale = torch.randn(3, K), torch.tensor([0.01])
    codes = fused(x, out_dtype=torch.float8_e4m3fn, out_scale=scale)
    expected = encode(layer(x), scale, torch.float8_e4m3fn)
    assert codes.dtype == torch.float8_e4m3fn
    assert torch.equal(codes.view(torch.uint8), expected.view(torch.uint8))
    assert fused.input_scale is not None
    own = encode(x, fused.input_scale, torch.float8_e4m3fn)
    residual = torch.zeros(3, N)
    assert torch.equal(fused(own, residual=residual), layer(x))
    assert fused(own, residual=residual.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "smoothed"), [("W8A8", False), ("FP8_DYNAMIC", False), ("FP8", True)])
def test_codes_are_refused_where_their_scale_is_not_the_layers(name: str, smoothed: bool) -> None:
    _, fused = build(name, smoothed=smoothed)
    with pytest.raises(ValueError, match="codes as input need a layer with a static input_scale"):
        fused(torch.zeros(3, K).to(fused.weight.dtype), out_dtype=torch.float32)


class OnGpu(FusedLinear):
    """Takes the CPU for a GPU: its weight stays in the order of the kernels."""

    def prepack(self) -> OnGpu:
        self.weight = aligned_rows.pack(self.weight)
        return self


def test_rows_as_the_kernels_read_them() -> None:
    layer, _ = build("W8A8")
    packed = OnGpu.of(layer).prepack()
    assert packed.layout == aligned_rows.NAME
    x = torch.randn(3, K)
    assert torch.equal(packed(x), layer(x))


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
        "load without fused=True for hooks, LoRA and other processors)"
    )
