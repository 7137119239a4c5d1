"""A quantized layer has the hooks and plain attributes of the Linear in whose place it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import quant
from quant.layers.linear import QuantLinear
from quant.layers.replace import quantized_layers, replaced

X = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))


class Counter:
    """A hook with a state, of which a copy has its own."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self.calls += 1


def test_hooks_run_around_the_quantized_layer_and_the_original_keeps_its_own() -> None:
    net: Any = nn.Sequential(nn.Linear(64, 32))
    counter, seen = Counter(), []
    net[0].register_forward_pre_hook(counter, with_kwargs=True)
    net[0].register_forward_hook(lambda module, args, output: output * 2)
    net[0].register_full_backward_hook(lambda module, into, out: seen.append(out[0].shape))
    net[0].multiplier, net[0].sizes, net[0]._of, net[0]._seen = 3, (1, (2, "a")), (net,), [1]
    made = quant.quantize(net, "fp8-dynamic")
    layer = made[0]
    assert isinstance(layer, QuantLinear)
    own: Any = vars(layer)
    assert (own["multiplier"], own["sizes"], own["_seen"]) == (3, (1, (2, "a")), [1])
    assert own["_seen"] is not net[0]._seen and own["_of"][0] is made  # of the copy, as everything around it
    x = X.clone().requires_grad_()
    out = made(x)
    assert torch.equal(out, 2 * layer.multiply(X, layer.bias, None, X.dtype, X.dtype))
    out.sum().backward()
    assert seen == [(4, 32)]
    assert counter.calls == 0  # the copy counts for itself
    assert [vars(hook)["calls"] for hook in layer._forward_pre_hooks.values()] == [1]
    handle = layer.register_forward_hook(lambda module, args, output: None)
    handle.remove()
    assert len(net[0]._forward_hooks) == len(layer._forward_hooks) == 1


def test_a_layer_in_two_places_stays_one_and_is_saved_by_both_names(tmp_path: Path) -> None:
    def make() -> nn.Module:
        layer = nn.Linear(64, 64)
        return nn.Sequential(layer, nn.Tanh(), layer)

    made = quant.quantize(make(), "w8a8", forward_loop=lambda m: m(X))
    assert made[0] is made[2]
    assert isinstance(made[0], QuantLinear)
    quant.save(made, tmp_path / "out")
    with torch.no_grad():
        assert torch.equal(quant.load(tmp_path / "out", into=make())(X), made(X))


@pytest.mark.parametrize("recipe", ["fp8-dynamic", "w4a16", "w8a8"])
def test_a_transformer_encoder_layer_calls_its_quantized_layers(recipe: str, tmp_path: Path) -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(128, 4, 128, batch_first=True)
        return nn.TransformerEncoder(layer, 2, enable_nested_tensor=True).eval()

    net, x = make(), torch.randn(2, 9, 128)
    padding = torch.arange(9).expand(2, 9) >= 7  # with which the encoder itself has a fast path
    made = quant.quantize(net, recipe, forward_loop=lambda m: m(x))  # without a gradient: the fast path would be taken
    assert sorted(quantized_layers(made)) == [f"layers.{i}.linear{j}" for i in (0, 1) for j in (1, 2)]
    quant.save(made, tmp_path / "out")
    loaded = quant.load(tmp_path / "out", into=make())
    with torch.no_grad():
        assert (made(x) - net(x)).norm() / net(x).norm() < 0.06
        assert torch.equal(loaded(x), made(x))
        masked = made(x, src_key_padding_mask=padding)
        assert torch.equal(loaded(x, src_key_padding_mask=padding), masked)
        exact = net(x, src_key_padding_mask=padding)
        assert (masked[:, : exact.shape[1]] - exact)[:, :7].norm() / exact[:, :7].norm() < 0.06


def test_layers_that_are_replaced_for_a_while_are_called_then() -> None:
    layer = nn.TransformerEncoderLayer(128, 4, 128, batch_first=True)
    net, x = nn.TransformerEncoder(layer, 1, enable_nested_tensor=True).eval(), torch.randn(2, 9, 128)
    padding = torch.arange(9).expand(2, 9) >= 7
    layers = quantized_layers(quant.quantize(net, "fp8-dynamic"))
    calls: list[int] = []
    for each in layers.values():
        each.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        before = net(x, src_key_padding_mask=padding)
        with replaced(net, layers):
            net(x, src_key_padding_mask=padding)
        assert len(calls) == 2
        assert torch.equal(net(x, src_key_padding_mask=padding), before)


def test_tied_weights_are_quantized_each_for_itself(tmp_path: Path) -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64))
        net[2].weight = net[0].weight
        return net

    net = make()
    made = quant.quantize(net, "fp8-dynamic")
    assert net[2].weight is net[0].weight  # type: ignore[index]
    assert torch.equal(made[0].weight.float(), made[2].weight.float())
    assert made[0].weight.data_ptr() != made[2].weight.data_ptr()
    quant.save(made, tmp_path / "out")
    with torch.no_grad():
        assert (made(X) - net(X)).norm() / net(X).norm() < 0.06
        assert torch.equal(quant.load(tmp_path / "out", into=make())(X), made(X))
