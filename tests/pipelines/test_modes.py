"""A model is calibrated as it is used, whatever mode it is in, and is in that mode afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import quant
from quant.pipelines.modes import evaluating


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.drop, self.norm, self.b = nn.Linear(8, 64), nn.Dropout(0.5), nn.BatchNorm1d(64), nn.Linear(64, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.b(self.norm(self.drop(self.a(x))))
        return out


def test_each_module_has_its_own_mode_again_also_after_an_error() -> None:
    net = Net().train()
    net.norm.eval()
    before = {name: module.training for name, module in net.named_modules()}

    def fail() -> None:
        with evaluating([net]):
            assert not any(module.training for module in net.modules())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert {name: module.training for name, module in net.named_modules()} == before


def test_ranges_of_a_model_in_train_mode_are_those_without_dropout() -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(300, 8)
    statistics = net.norm.running_mean.clone()  # type: ignore[union-attr]
    trained = quant.quantize(net.train(), "fp8-static", forward_loop=lambda m: m(x))
    assert net.training
    assert net.drop.training
    assert not trained.training
    assert torch.equal(net.norm.running_mean, statistics)  # type: ignore[arg-type]
    evaluated = quant.quantize(net.eval(), "fp8-static", forward_loop=lambda m: m(x))
    assert torch.equal(trained.b.input_scale, evaluated.b.input_scale)
