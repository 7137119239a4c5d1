"""The gradient of a quantized layer is that of the Linear with the weight that its codes mean."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import unpack_linear
from quant.kernels import prepacking
from quant.kernels.layouts import mma_sparse24
from quant.layers.linear import QuantLinear
from tests.layers.test_layer_formats import LAYER_FORMATS, K, N, build, every_format

SHAPE = (2, 5, K)


def twin(tensors: dict[str, torch.Tensor], layer: QuantLinear) -> nn.Linear:
    """The Linear with the dequantized weight, branch and smoothing included."""
    linear = nn.Linear(K, N)
    assert layer.bias is not None
    with torch.no_grad():
        linear.weight.copy_(unpack_linear(tensors, layer.layer_format))
        linear.bias.copy_(layer.bias)
    return linear


def gradients(module: Any, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of the input and the bias, for a drawn loss."""
    torch.manual_seed(1)
    x = torch.randn(shape, requires_grad=True)
    bias = module.bias.requires_grad_()
    out = module(x)
    found = torch.autograd.grad(out, (x, bias), torch.randn(out.shape))
    return found[0], found[1]


@every_format
def test_it_is_that_of_the_dequantized_twin(layer_format: LayerFormat) -> None:
    layer, tensors = build(layer_format)
    linear = twin(tensors, layer)
    for shape in (SHAPE, (K,)):
        for found, expected in zip(gradients(layer, *shape), gradients(linear, *shape), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@every_format
def test_the_forward_is_the_same_with_and_without(layer_format: LayerFormat) -> None:
    layer, _ = build(layer_format)
    x = torch.randn(SHAPE)
    with torch.no_grad():
        expected = layer(x)
    out = layer(x.clone().requires_grad_())
    assert out.requires_grad
    assert torch.equal(out, expected)
    assert not layer(x).requires_grad
    with torch.inference_mode():
        assert torch.equal(layer(x), expected)


def test_it_is_right_in_the_orders_of_gpu_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = {"int4_mm": "int4_fragments_8", "sparse_scaled_mm": mma_sparse24.NAME}
    layer_formats = (LayerFormat(SCHEMES["W4A8"], smoothed=True), LayerFormat(SCHEMES["W8A8"], sparse=True))
    plain = [build(layer_format) for layer_format in layer_formats]
    monkeypatch.setattr(prepacking, "wanted", lambda op, *rest: orders[op])
    for layer_format, (layer, tensors) in zip(layer_formats, plain, strict=True):
        packed, _ = build(layer_format)
        assert packed.layout in orders.values()
        expected = unpack_linear(tensors, layer_format)
        torch.testing.assert_close(packed.dequantized(packed.held()), expected)
        torch.testing.assert_close(gradients(packed, *SHAPE), gradients(layer, *SHAPE))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_it_is_that_of_a_linear_in_that_dtype(dtype: torch.dtype) -> None:
    layer, tensors = build(LayerFormat(SCHEMES["W4A16"]), dtype)
    weight = unpack_linear(tensors, layer.layer_format).to(dtype)
    x, by = torch.randn(SHAPE, dtype=dtype, requires_grad=True), torch.randn(2, 5, N, dtype=dtype)
    (found,) = torch.autograd.grad(layer(x), x, by)
    assert torch.equal(found, by @ weight)


def test_nothing_dequantized_is_kept_between_forward_and_backward() -> None:
    layer, _ = build(LayerFormat(SCHEMES["W4A16"]))
    own = {buffer.untyped_storage().data_ptr() for buffer in layer.held().values()}
    saved: list[torch.Tensor] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    x = torch.randn(SHAPE, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = layer(x)
    assert {tensor.untyped_storage().data_ptr() for tensor in saved} <= own
    layer.to("meta")  # as offloading does between forward and backward
    out.sum().backward()
    assert x.grad is not None


def test_it_survives_compiling_checkpoints_and_second_derivatives() -> None:
    layers = nn.Sequential(build(LAYER_FORMATS[0])[0], nn.GELU(), nn.Linear(N, K), build(LAYER_FORMATS[3])[0])
    x, by = torch.randn(4, K, requires_grad=True), torch.randn(4, N)
    (expected,) = torch.autograd.grad(layers(x), x, by)
    compiled = torch.compile(layers, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.autograd.grad(compiled(x), x, by)[0], expected)
    for reentrant in (False, True):
        again = x.detach().requires_grad_()
        checkpoint(layers, again, use_reentrant=reentrant).backward(by)
        assert again.grad is not None
        assert torch.equal(again.grad, expected)
    one = layers[0]
    assert isinstance(one, QuantLinear)
    half = torch.randn(4, N, requires_grad=True)
    (first,) = torch.autograd.grad(one(x), x, half, create_graph=True)
    held = one.held()
    torch.testing.assert_close(
        torch.autograd.grad(first, half, torch.ones_like(x))[0], torch.ones_like(x) @ one.dequantized(held).T
    )
    torch.testing.assert_close(torch.func.grad(lambda x: (layers(x) * by).sum())(x.detach()), expected)


def test_an_adapter_learns_around_frozen_layers() -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(
        build(LAYER_FORMATS[2])[0], nn.SiLU(), nn.Linear(N, K), build(LAYER_FORMATS[4])[0]
    ).requires_grad_(False)
    original = copy.deepcopy(layers.state_dict())
    down, up = nn.Linear(K, 4, bias=False), nn.Linear(4, K, bias=False)
    nn.init.zeros_(up.weight)
    x = torch.randn(32, K)
    goal = layers(x + torch.roll(x, 1, dims=1))
    optimizer = torch.optim.Adam([*down.parameters(), *up.parameters()], lr=0.02)
    losses = []
    for _ in range(40):
        loss = (layers(x + up(down(x))) - goal).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert all(
        torch.equal(a.float(), b.float()) for a, b in zip(layers.state_dict().values(), original.values(), strict=True)
    )


def test_a_layer_is_called_by_keyword_as_a_linear_is() -> None:
    layer, _ = build(LAYER_FORMATS[0])
    x = torch.randn(3, K)
    assert torch.equal(layer(input=x), layer(x))
