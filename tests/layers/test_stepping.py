"""Layers whose inputs stay as they are at some steps: by the model's timestep, compiled or not."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.steps import PreciseSteps
from quant.formats.tensors import pack_linear, unpack_linear
from quant.layers.conv import QuantConv
from quant.layers.conv_kind import ConvKind
from quant.layers.following import at_timestep, follow_timesteps
from quant.layers.fused.surroundings import fuse_layer
from quant.layers.linear import QuantLinear
from tests.layers.quantized import quantized

STEPS = PreciseSteps(above=900.0, up_to=100.0, first=2, last=1, of=10)
#: Timesteps, and whether they are among the steps: an edge is below it.
PLACES = [(1000.0, True), (900.5, True), (900.0, False), (500.0, False), (100.5, False), (100.0, True), (0.0, True)]
X = torch.randn(8, 32, generator=torch.Generator().manual_seed(1))
FACTOR = torch.linspace(0.5, 2.0, 32)


def linear() -> QuantLinear:
    torch.manual_seed(0)
    plain = nn.Linear(32, 32)
    layer_format = LayerFormat(SCHEMES["W8A8"], smoothed=True, steps=STEPS)
    return quantized(plain, layer_format, pack_linear(plain.weight.detach(), layer_format, pre_quant_scale=FACTOR))


def conv() -> QuantConv:
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 16, 3, padding=1)
    kind, layer_format = ConvKind(), LayerFormat(SCHEMES["FP8_DYNAMIC"], kernel_size=(3, 3), steps=STEPS)
    tensors = pack_linear(kind.matrix(plain.weight.detach()), layer_format)
    made = kind.filled(plain, layer_format, tensors, torch.device("cpu"))
    assert isinstance(made, QuantConv)
    return made


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear: QuantLinear = linear()
        self.conv: QuantConv = conv()

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.conv(self.linear(sample).reshape(1, 16, -1, 4))
        return out


def followed() -> Denoiser:
    model = Denoiser().requires_grad_(False)
    follow_timesteps(model)
    return model


def expected(x: torch.Tensor, precise: bool) -> torch.Tensor:
    """By the layers alone, or by torch's own operations on the weights that their codes mean."""
    first, second = linear().requires_grad_(False), conv().requires_grad_(False)
    if not precise:
        found: torch.Tensor = second(first(x).reshape(1, 16, -1, 4))
        return found
    weight = unpack_linear(first.state_dict(), first.layer_format)
    y = F.linear(x, weight, first.bias).reshape(1, 16, -1, 4)
    codes: Any = second.state_dict()
    window = unpack_linear(codes, second.layer_format).reshape(16, 3, 3, 16).permute(0, 3, 1, 2)
    return F.conv2d(y, window, codes["bias"], padding=1)


def test_each_timestep_has_its_precision() -> None:
    model = followed()
    assert not torch.allclose(expected(X, True), expected(X, False), rtol=1e-4, atol=1e-4)
    for timestep, precise in PLACES:
        torch.testing.assert_close(model(X, torch.tensor([timestep])), expected(X, precise))
        torch.testing.assert_close(model(sample=X, timestep=torch.tensor(timestep)), expected(X, precise))


def test_one_end_alone_has_no_other() -> None:
    for steps, answers in (
        (PreciseSteps(900.0, None, 1, 0, 4), [True, True, False, False]),
        (PreciseSteps(None, 100.0, 0, 1, 4), [False, False, False, True]),
    ):
        found = [(steps.holds(t), bool(steps.holds(torch.tensor(t)))) for t in (1e9, 900.5, 500.0, -5.0)]
        assert found == [(answer, answer) for answer in answers]


def test_a_layer_alone_quantizes_also_after_a_call_that_failed() -> None:
    model, alone = followed(), linear()
    for timestep in (950.0, 500.0):
        with pytest.raises(RuntimeError):
            model(X[:7], torch.tensor([timestep]))
        assert torch.equal(model.linear(X), alone(X))
    with at_timestep([alone], 950.0):
        torch.testing.assert_close(
            alone(X), F.linear(X, unpack_linear(alone.state_dict(), alone.layer_format), alone.bias)
        )
    assert alone.clock is None and alone.choice is None


def test_a_copy_chooses_by_its_own_calls() -> None:
    model = followed()
    other = copy.deepcopy(model)
    clocks = {id(layer.clock) for layer in (other.linear, other.conv, model.linear)}
    assert len(clocks) == 2 and id(other.linear.clock) == id(other.conv.clock)
    torch.testing.assert_close(other(X, torch.tensor([950.0])), expected(X, True))
    torch.testing.assert_close(other(X, torch.tensor([500.0])), expected(X, False))


def test_the_gradient_is_that_of_the_dequantized_weight_at_every_step() -> None:
    layer = linear()
    weight = unpack_linear(layer.state_dict(), layer.layer_format)
    for timestep in (950.0, 500.0):
        x = X.clone().requires_grad_()
        with at_timestep([layer], timestep):
            layer(x).sum().backward()
        torch.testing.assert_close(x.grad, torch.ones(8, 32) @ weight)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("inference", [True, False])
def test_compiled_it_has_one_graph_as_a_whole_and_two_for_each_layer_alone(whole: bool, inference: bool) -> None:
    """No graph break, and no graph for each timestep."""
    torch._dynamo.reset()
    model, graphs = followed(), 0

    def counting(graph: torch.fx.GraphModule, given: list[torch.Tensor]) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1
        return graph.forward

    run: Any = torch.compile(model, fullgraph=True, backend=counting) if whole else model
    if not whole:
        for layer in (model.linear, model.conv):
            layer.compile(fullgraph=True, backend=counting)
    with torch.inference_mode(inference):
        for timestep, precise in PLACES:
            torch.testing.assert_close(run(X, torch.tensor([timestep])), expected(X, precise))
    assert graphs == (2 if whole else 4)  # of the hook and of the model; of each layer, where it does and does not
    torch._dynamo.reset()


def test_where_a_graph_is_captured_the_device_chooses_between_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.layers.clock._capturing", lambda timestep: True)
    model = followed()
    for timestep, precise in PLACES:
        torch.testing.assert_close(model(X, torch.tensor([timestep])), expected(X, precise))


def test_nothing_is_fused_into_it_and_the_reason_is_said() -> None:
    model = nn.Sequential(linear())
    said = fuse_layer(model, "0")
    assert said == (
        "0 is W8A8, inputs as they are in the first 2 and last 1 of 10 steps, where nothing is fused into the "
        "quantization of an input"
    )
    assert type(model[0]) is QuantLinear
