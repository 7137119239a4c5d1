"""A quantized convolution computes torch's, of the weight and the input that its codes mean."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.tensors import LowRank, pack_linear, unpack_linear
from quant.kernels.numerics import encode, scale_from_amax
from quant.layers.conv import QuantConv, QuantConv2d
from quant.layers.conv_classes import DOING_AROUND, does_around
from quant.layers.kinds import kind_of

C, N = 32, 48
CONVOLUTIONS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "3": (nn.Conv1d(C, N, 3, padding=1), (2, C, 9)),
    "1x1": (nn.Conv2d(C, N, 1, bias=False), (2, C, 5, 6)),
    "3x3": (nn.Conv2d(C, N, 3, stride=2, padding=1), (2, C, 7, 6)),
    "3x1x1": (nn.Conv3d(C, N, (3, 1, 1), padding=(1, 0, 0)), (2, C, 4, 3, 3)),
    "3x3x3": (nn.Conv3d(C, N, 3, padding="same"), (2, C, 4, 5, 3)),
}


def in_groups(name: str) -> Scheme:
    """A scheme in groups of 32."""
    found = SCHEMES[name]
    assert found.weights is not None
    return replace(found, name=f"{name}_G32", weights=replace(found.weights, group_size=32))


FORMATS: dict[str, LayerFormat] = {
    "W8A8": LayerFormat(SCHEMES["W8A8"]),
    "W8A8 smoothed": LayerFormat(SCHEMES["W8A8"], smoothed=True),
    "FP8": LayerFormat(SCHEMES["FP8"]),
    "FP8_BLOCK": LayerFormat(SCHEMES["FP8_BLOCK"]),
    "W4A16": LayerFormat(in_groups("W4A16")),
    "W4A16_ASYM": LayerFormat(in_groups("W4A16_ASYM"), smoothed=True),
    "W8A16": LayerFormat(in_groups("W8A16")),
    "W4A8": LayerFormat(in_groups("W4A8")),
    "W8A8 + rank 3": LayerFormat(SCHEMES["W8A8"], rank=3),
    "2:4": LayerFormat(SCHEMES["UNQUANTIZED"], sparse=True),
}


def build(conv: nn.Module, layer_format: LayerFormat) -> tuple[QuantConv, torch.Tensor]:
    """The quantized layer, and the weight that it means as torch has it."""
    kind = kind_of(conv)
    assert kind is not None
    layer_format = replace(layer_format, kernel_size=kind.kernel_size(conv))
    matrix = kind.matrix(kind.weight(conv).detach()).clone()
    n, k = matrix.shape
    if layer_format.sparse:
        matrix.view(n, k // 4, 4)[..., 1:3] = 0
    tensors = pack_linear(
        matrix,
        layer_format,
        input_scale=torch.tensor([0.01]) if layer_format.scheme.has_static_input else None,
        pre_quant_scale=torch.rand(C) + 0.5 if layer_format.smoothed else None,
        low_rank=LowRank(torch.randn(n, 3) / 9, torch.randn(3, k) / 9) if layer_format.rank else None,
    )
    layer = kind.filled(conv, layer_format, tensors, torch.device("cpu"))
    assert isinstance(layer, QuantConv)
    meant = unpack_linear(tensors, layer_format).reshape(n, *layer_format.kernel_size, C).movedim(-1, 1)
    return layer, meant


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("window", CONVOLUTIONS)
def test_forward_and_gradient_are_those_of_the_weight_that_is_meant(name: str, window: str) -> None:
    torch.manual_seed(0)
    conv, shape = CONVOLUTIONS[window]
    layer, weight = build(conv, FORMATS[name])
    x = torch.randn(shape).requires_grad_()
    other = x.detach().clone().requires_grad_()
    over = (layer.window.stride, layer.window.padding, layer.window.dilation)
    convolve: Any = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
    expected: torch.Tensor = convolve(other, weight, layer.bias, *over)
    found = layer(x)
    assert found.shape == expected.shape
    inputs = FORMATS[name].scheme.input_activations
    # Codes of an input are off by half a step of 127 or 448, a sixteenth of e4m3, and errors do not add up.
    bound = 1e-5 if inputs is None else 0.06 if inputs.type == "float" else 0.03
    assert (found - expected).norm() / expected.norm() < bound
    drawn = torch.randn(found.shape)
    found.backward(drawn)
    expected.backward(drawn)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(x.grad, other.grad, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert torch.equal(layer(x), found)
        assert torch.equal(layer(input=x[0]), layer(x[:1])[0])
        assert torch.equal(copy.deepcopy(layer)(x), found)


def test_a_sample_has_one_scale() -> None:
    torch.manual_seed(0)
    conv, shape = CONVOLUTIONS["3x3"]
    layer, weight = build(conv, FORMATS["W8A8"])
    x = torch.randn(shape) * torch.tensor([1.0, 30.0]).reshape(2, 1, 1, 1)
    scale = scale_from_amax(x.abs().flatten(1).amax(dim=1), torch.int8).reshape(2, 1, 1, 1)
    meant = encode(x, scale, torch.int8).float() * scale
    with torch.no_grad():
        torch.testing.assert_close(layer(x), F.conv2d(meant, weight, layer.bias, 2, 1), rtol=1e-4, atol=1e-4)


def test_a_state_comes_back_and_a_cast_leaves_scales_alone() -> None:
    layer, _ = build(CONVOLUTIONS["3x3"][0], FORMATS["W8A8 smoothed"])
    other = QuantConv.of(CONVOLUTIONS["3x3"][0], layer.layer_format).to_empty(device="cpu")
    other.load_state_dict(layer.state_dict())
    x = torch.randn(CONVOLUTIONS["3x3"][1])
    with torch.no_grad():
        assert torch.equal(other(x), layer(x))
        half = other.to(torch.bfloat16)
        assert half.pre_quant_scale is not None
        assert half.pre_quant_scale.dtype == half.weight_scale.dtype == torch.float32
        assert half(x.bfloat16()).dtype == torch.bfloat16
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16


def test_it_compiles_in_one_graph() -> None:
    layer, _ = build(CONVOLUTIONS["3x3"][0], FORMATS["W8A8"])
    x = torch.randn(CONVOLUTIONS["3x3"][1])
    with torch.no_grad():
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        assert torch.equal(compiled(x), layer(x))


def diffusers_class(name: str) -> Any:
    """One of diffusers' classes that it has not at its top."""
    for package in ("autoencoders", "latent_upscaler"):
        place = import_module(f"diffusers.models.{package}")
        for module in iter_modules(place.__path__):
            found = getattr(import_module(f"{place.__name__}.{module.name}"), name, None)
            if found is not None:
                return found
    raise LookupError(name)


@pytest.mark.parametrize("name", DOING_AROUND)
def test_what_a_subclass_does_around_is_done(name: str) -> None:
    torch.manual_seed(0)
    cls = diffusers_class(name)
    conv = cls(C, N, 3, padding=1) if "Causal" in name else cls(C, N, 3)
    assert does_around(cls)
    assert kind_of(conv) is not None
    assert not kind_of(conv).own_way(nn.Sequential(conv), "0", conv, {})  # type: ignore[union-attr]
    layer, weight = build(conv, FORMATS["W8A16"])
    assert isinstance(layer, cls)
    twin = copy.deepcopy(conv)
    twin.weight.data = weight
    x = torch.randn(1, C, 1 if "21" in name else 5, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(layer(x), twin(x), rtol=1e-4, atol=1e-4)
        for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
            if hasattr(layer, "prev_features"):  # what EasyAnimate's keeps from call to call
                layer.prev_features = other.prev_features = None
            assert torch.equal(other(x), layer(x))


def test_a_subclass_of_nobody_known_is_kept() -> None:
    class Reads(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(x, self.weight)

    conv = Reads(C, N, 3)
    kind = kind_of(conv)
    assert kind is not None
    assert kind.own_way(nn.Sequential(conv), "0", conv, {}) == "a Reads: its own forward would be lost"


@pytest.mark.parametrize(
    ("conv", "reason"),
    [
        (nn.Conv2d(C, N, 3, groups=2), "of 2 groups"),
        (nn.ConvTranspose2d(C, N, 3), "transposed"),
        (nn.Conv2d(C, N, 3, padding=1, padding_mode="reflect"), "pads by 'reflect'"),
        (nn.Conv1d(C, N, 4, padding="same"), "one side more"),
        (nn.Conv2d(4, 320, 3), "4 input channels"),
        (nn.Conv2d(320, 4, 3), "4 output channels"),
        (nn.Conv2d(32, 32, 1), "1024 weights"),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(C, N, 3)), "parametrized"),
    ],
)
def test_others_are_kept_with_a_reason(conv: nn.Module, reason: str) -> None:
    kind = kind_of(conv)
    assert kind is not None
    assert reason in kind.own_way(nn.Sequential(conv), "0", conv, {})


def test_a_quantized_one_is_of_no_kind() -> None:
    layer, _ = build(CONVOLUTIONS["3x3"][0], FORMATS["W8A8"])
    assert isinstance(layer, QuantConv2d)
    assert kind_of(layer) is None
