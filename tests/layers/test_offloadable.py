"""accelerate brings every tensor of a packed layer for its call and takes it away again; results stay bit for bit."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_submodules
from torch import nn

from quant.errors import ModelError
from quant.formats.layer import LayerFormat
from quant.kernels import prepacking
from quant.kernels.weight_orders import LAYOUTS
from quant.layers.fused.surroundings import merge_layers
from tests.layers.fused.layer_formats import LAYER_FORMATS, packed, same
from tests.layers.test_conv import FORMATS as CONVOLUTIONS
from tests.layers.test_conv import build

every = pytest.mark.parametrize("name", LAYER_FORMATS)


class Net(nn.Module):
    """Two packed layers and one that is not."""

    def __init__(self, layer_format: LayerFormat) -> None:
        super().__init__()
        torch.manual_seed(0)
        factor = torch.rand(256) + 0.5
        self.first = packed(nn.Linear(256, 256).bfloat16(), layer_format, factor=factor)
        self.last = packed(nn.Linear(256, 33).bfloat16(), layer_format)
        self.out = nn.Linear(33, 5).bfloat16()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.out(self.last(self.first(x)))
        return made


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes this machine for one with kernels that read weights in an order of their own."""
    monkeypatch.setattr(prepacking, "wanted", lambda op, *_: LAYOUTS[op][1])


def left(model: nn.Module) -> int:
    """Bytes that are on a device between calls."""
    return sum(t.nbytes for t in (*model.parameters(), *model.buffers()) if not t.is_meta)


@every
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_all_of_it_comes_for_a_call(name: str, where: str, kernels: None, tmp_path: Path) -> None:
    net = Net(LAYER_FORMATS[name])
    before, x = copy.deepcopy(net), torch.randn(3, 256).bfloat16()
    if where == "memory":
        cpu_offload(net, torch.device("cpu"))
    else:
        disk_offload(net, str(tmp_path), torch.device("cpu"))
    assert left(net) == 0
    assert torch.equal(net(x), before(x))
    assert left(net) == 0
    shapes = {key: (tensor.shape, tensor.dtype) for key, tensor in net.state_dict().items()}
    assert shapes == {key: (tensor.shape, tensor.dtype) for key, tensor in before.state_dict().items()}
    remove_hook_from_submodules(net)
    assert same(net.state_dict(), before.state_dict())
    assert (net.first.layout, net.last.layout) == (before.first.layout, before.last.layout)
    assert torch.equal(net(x), before(x))


@every
def test_parts_of_a_device_map_that_stay_on_the_cpu(name: str) -> None:
    """The device of the others is meta here, and calls are sent to the CPU that would go there."""
    net = Net(LAYER_FORMATS[name])
    before, x = copy.deepcopy(net), torch.randn(3, 256).bfloat16()
    dispatch_model(net, {"first": "cpu", "last": "cpu", "out": "meta"}, main_device=torch.device("meta"))
    assert left(net) == 0
    for layer in (net.first, net.last):
        layer._hf_hook.execution_device = torch.device("cpu")
    assert torch.equal(net.last(net.first(x)), before.last(before.first(x)))
    assert left(net) == 0


def test_a_convolution(kernels: None) -> None:
    for name, layer_format in CONVOLUTIONS.items():
        conv, shape = nn.Conv3d(32, 48, 3, padding=1).bfloat16(), (1, 32, 3, 4, 4)
        layer, _ = build(conv, layer_format)
        before, x = copy.deepcopy(layer), torch.randn(shape).bfloat16()
        net = nn.Sequential(layer)
        cpu_offload(net, torch.device("cpu"))
        assert left(net) == 0
        assert torch.equal(net(x), before(x)), name
        assert left(net) == 0


def test_a_gradient_through_a_layer_that_is_away(kernels: None) -> None:
    net = Net(LAYER_FORMATS["W4A16"])
    x = torch.randn(3, 256).bfloat16().requires_grad_()
    other = x.detach().clone().requires_grad_()
    net(other).sum().backward()
    cpu_offload(net, torch.device("cpu"))
    net(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, other.grad)  # type: ignore[arg-type]


def test_a_hook_with_tensors_of_its_own(kernels: None) -> None:
    """Which are in the order that the layer is in, and stay so."""
    layer = Net(LAYER_FORMATS["W4A16_ASYM"]).last
    before, x = copy.deepcopy(layer), torch.randn(3, 256).bfloat16()
    add_hook_to_module(layer, AlignDevicesHook("cpu", offload=True))
    assert torch.equal(layer(x), before(x))
    assert list(layer.held()) == list(before.held())
    assert left(layer) == 0


def test_merged_layers_have_no_names_of_their_own() -> None:
    net = Net(LAYER_FORMATS["W8A8"])
    net.second = copy.deepcopy(net.first)
    assert merge_layers(net, ("first", "second"), "both") == "fused"
    with pytest.raises(ModelError, match=r"cannot offload a MergedLinear, .* without fused=True, or use enable_group"):
        cpu_offload(net, torch.device("cpu"))
