"""Layers with bins take the range of the timestep that their model is called with, compiled or not."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from quant.errors import ModelError
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import pack_linear
from quant.layers.conv import QuantConv
from quant.layers.conv_kind import ConvKind
from quant.layers.following import at_timestep, follow_timesteps
from quant.layers.linear import QuantLinear
from tests.layers.quantized import quantized

EDGES, SCALES = [100.0, 600.0], [0.01, 0.002, 0.03]
FP8 = LayerFormat(SCHEMES["FP8"])
#: A timestep and the bin that it is in: an edge is in the bin below it, and the outer bins have no end.
PLACES = [(-3.0, 0), (100.0, 0), (100.5, 1), (600.0, 1), (601.0, 2), (5000.0, 2)]


def packed(weight: torch.Tensor, layer_format: LayerFormat, scales: list[float]) -> dict[str, torch.Tensor]:
    edges = torch.tensor(EDGES) if len(scales) > 1 else None
    return pack_linear(weight, layer_format, input_scale=torch.tensor(scales), bin_edges=edges)


def linear(scales: list[float]) -> QuantLinear:
    torch.manual_seed(0)
    plain = nn.Linear(32, 32)
    layer_format = replace(FP8, bins=len(scales))
    return quantized(plain, layer_format, packed(plain.weight.detach(), layer_format, scales))


def conv(scales: list[float]) -> QuantConv:
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 16, 3, padding=1)
    layer_format, kind = replace(FP8, bins=len(scales), kernel_size=(3, 3)), ConvKind()
    tensors = packed(kind.matrix(plain.weight.detach()), layer_format, scales)
    made = kind.filled(plain, layer_format, tensors, torch.device("cpu"))
    assert isinstance(made, QuantConv)
    return made


class Denoiser(nn.Module):
    def __init__(self, scales: list[float] = SCALES) -> None:
        super().__init__()
        self.linear, self.conv = linear(scales), conv(scales)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        y = self.linear(sample) + timestep.float().mean()
        out: torch.Tensor = self.conv(y.reshape(1, 16, -1, 4))
        return out


def followed() -> Denoiser:
    model = Denoiser().requires_grad_(False)
    follow_timesteps(model)
    return model


def expected(x: torch.Tensor, timestep: float, place: int) -> torch.Tensor:
    """By layers with the one scale of that bin."""
    found: torch.Tensor = Denoiser([SCALES[place]]).requires_grad_(False)(x, torch.tensor([timestep]))
    return found


X = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))


def test_each_timestep_has_its_bins_range() -> None:
    model = followed()
    for timestep, place in PLACES:
        assert torch.equal(model(X, torch.tensor([timestep, timestep])), expected(X, timestep, place))
        assert torch.equal(model(sample=X, timestep=torch.tensor(timestep)), expected(X, timestep, place))


def test_a_layer_alone_has_the_widest_range_also_after_a_call_that_failed() -> None:
    model, alone = followed(), linear([max(SCALES)])
    with pytest.raises(RuntimeError):
        model(X[:7], torch.tensor([300.0]))
    assert torch.equal(model.linear(X), alone(X))
    assert torch.equal(linear(SCALES)(X), alone(X))


def test_a_copy_is_followed_by_itself() -> None:
    model = followed()
    other = copy.deepcopy(model)
    assert other.linear.clock is other.conv.clock is not model.linear.clock
    assert torch.equal(other(X, torch.tensor([300.0])), expected(X, 300.0, 1))
    follow_timesteps(model)
    assert (len(model._forward_pre_hooks), len(model._forward_hooks)) == (1, 1)


def test_other_edges_that_are_loaded_are_used() -> None:
    model = followed()
    state = model.state_dict()
    model.load_state_dict({name: t + 100 if name.endswith("bin_edges") else t for name, t in state.items()})
    assert torch.equal(model(X, torch.tensor([650.0])), expected(X, 650.0, 1))


def test_a_timestep_that_is_set_lasts_as_long_as_its_context() -> None:
    layer, own = linear(SCALES), linear([SCALES[1]])
    with at_timestep([layer, nn.Identity()], 300.0):
        assert torch.equal(layer(X), own(X))
    assert layer.clock is None


def test_a_model_that_is_not_called_with_a_timestep_is_refused() -> None:
    model = nn.Sequential(linear(SCALES))
    with pytest.raises(ModelError, match=r"^Sequential is not called with a 'timestep', by which its layers choose"):
        follow_timesteps(model)
    plain = nn.Sequential(nn.Linear(2, 2))
    follow_timesteps(plain)
    assert not plain._forward_pre_hooks


@pytest.mark.parametrize("whole", [True, False])
def test_compiled_it_is_one_graph_for_all_timesteps(whole: bool) -> None:
    """Whole, or each layer alone as diffusers compiles repeated blocks."""
    torch._dynamo.reset()
    model = followed()
    run = torch.compile(model, fullgraph=True, backend="aot_eager") if whole else model
    if not whole:
        for layer in (model.linear, model.conv):
            layer.compile(fullgraph=True, backend="aot_eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for timestep, place in PLACES:
            found = run(X, torch.tensor([timestep]))
            torch.testing.assert_close(found, expected(X, timestep, place))
    torch._dynamo.reset()
    assert model.linear.clock is not None and model.linear.clock.timestep is None
