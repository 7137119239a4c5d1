"""`quant.quantize`, `quant.save` and `quant.load(into=)`: in memory as on disk, for pipelines and for any module."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors.torch import load_file
from torch import nn

import quant
from quant.layers.linear import QuantLinear
from quant.layers.replace import quantized_layers
from tests.tiny_checkpoints import RECIPES
from tests.tiny_pipeline import LINEARS, PROMPTS, SETTINGS


class Net(nn.Module):
    """Two Linears of odd sizes with an outlier channel between them, a norm and a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(77, 320)
        self.norm = nn.LayerNorm(320)
        self.second = nn.Linear(320, 1, bias=False)
        self.register_buffer("shift", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.second(self.norm(self.first(x))) + self.shift
        return out


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def data() -> torch.Tensor:
    return torch.randn(64, 77, generator=torch.Generator().manual_seed(1))


def loop(data: torch.Tensor) -> Callable[[nn.Module], object]:
    return lambda module: module(data)


@pytest.mark.parametrize("recipe", RECIPES)
def test_any_module_in_memory_to_disk_and_into_another(
    net: Net, data: torch.Tensor, tmp_path: Path, recipe: str
) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    quantized = quant.quantize(net, recipe, forward_loop=loop(data))
    assert set(quantized_layers(quantized)) == {"first", "second"}
    assert net.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not net.first._forward_pre_hooks
    with torch.no_grad():
        exact, got = net(data), quantized(data)
    assert 0 < ((got - exact).norm() / (exact - exact.mean()).norm()).item() < 0.08

    quant.save(quantized, tmp_path / "net")
    torch.manual_seed(5)
    loaded = quant.load(tmp_path / "net", into=Net())
    with torch.no_grad():
        assert torch.equal(loaded(data), got)
    state = quantized.state_dict()
    assert all(torch.equal(t, state[name]) and t.dtype == state[name].dtype for name, t in loaded.state_dict().items())
    (component,) = quant.inspect(tmp_path / "net").components
    assert [layer.scheme is not None for layer in component.layers] == [True, True]
    quant.save(loaded, tmp_path / "again")  # what was loaded into a module can be saved, and knows how it was made
    one, two = quant.inspect(tmp_path / "net"), quant.inspect(tmp_path / "again")
    assert (one.components, one.provenance) == (two.components, two.provenance)
    assert one.provenance["recipe"]["name"] == f"general/{recipe}"
    with pytest.raises(quant.QuantError, match="'Net' is no diffusers class; give the model to fill with into=module"):
        quant.load(tmp_path / "net")


def test_a_copy_shares_nothing_with_its_original(net: Net) -> None:
    quantized = quant.quantize(net, "fp8-dynamic")
    with torch.no_grad():
        net.norm.weight.zero_()
        net.get_buffer("shift").zero_()
    assert quantized.norm.weight.abs().sum() > 0
    assert quantized.shift.item() == 1


def test_one_vector_and_five_dimensions(net: Net) -> None:
    layer = quant.quantize(net, "w8a8", forward_loop=lambda m: m(torch.randn(9, 77))).first
    assert isinstance(layer, QuantLinear)
    x = torch.randn(2, 1, 3, 2, 2, 77)
    with torch.no_grad():
        assert layer(x).shape == (2, 1, 3, 2, 2, 320)
        assert torch.equal(layer(x)[1, 0, 2, 1, 1], layer(x[1, 0, 2, 1, 1]))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_pipeline_in_memory_equals_the_checkpoint(
    checkpoints: dict[str, Path], model_folder: Path, tmp_path: Path, recipe: str
) -> None:
    pipe = DiffusionPipeline.from_pretrained(model_folder, torch_dtype=torch.bfloat16)
    original = pipe.transformer
    made = quant.quantize(pipe, recipe, prompts=PROMPTS, settings=quant.GenerationSettings(**SETTINGS), progress=False)
    assert pipe.transformer is original
    assert not quantized_layers(original)
    assert len(quantized_layers(made.transformer)) == LINEARS
    made.transformer.save_pretrained(tmp_path / "saved")
    name = "diffusion_pytorch_model.safetensors"
    ours, theirs = load_file(tmp_path / "saved" / name), load_file(checkpoints[recipe] / "transformer" / name)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    folders = (tmp_path / "saved", checkpoints[recipe] / "transformer")
    one, two = (json.loads((folder / "config.json").read_text())["quantization_config"] for folder in folders)
    assert one == two


@pytest.mark.parametrize(
    ("recipe", "options", "says"),
    [
        ("w8a8", {}, "needs calibration data; give forward_loop="),
        ("w8a8", {"prompts": ["x"]}, "needs calibration data; give forward_loop="),
        ("w8a8", {"forward_loop": lambda module: None}, "layer 'model.first' was never run"),
        (
            "fp8-static",
            {"forward_loop": lambda module: module(torch.full((2, 77), float("nan")))},
            "layer 'model.first': its input holds NaN",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_refused(net: Net, recipe: str, options: dict[str, object], says: str) -> None:
    with pytest.raises(quant.QuantError, match=says):
        quant.quantize(net, recipe, **options)  # type: ignore[arg-type]
    assert not quantized_layers(net)
    assert not net.first._forward_pre_hooks


def test_saving_what_is_not_quantized_and_over_what_exists(net: Net, tmp_path: Path) -> None:
    with pytest.raises(quant.QuantError, match="Net is not quantized"):
        quant.save(net, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    quantized = quant.quantize(net, "fp8-dynamic")
    quant.save(quantized, tmp_path / "out")
    with pytest.raises(quant.QuantError, match="out: already exists"):
        quant.save(quantized, tmp_path / "out")
    quant.save(quantized, tmp_path / "out", force=True)
    with pytest.raises(quant.QuantError, match="model: is quantized already"):
        quant.quantize(quantized, "fp8-dynamic")
    with pytest.raises(quant.QuantError, match="Thread is neither a torch module nor a pipeline"):
        quant.quantize(__import__("threading").Thread(), "fp8-dynamic")


def test_into_a_module_on_meta(net: Net, tmp_path: Path, data: torch.Tensor) -> None:
    quantized = quant.quantize(net, "fp8-dynamic")
    quant.save(quantized, tmp_path / "out")
    with torch.device("meta"):
        empty = Net()
    loaded = quant.load(tmp_path / "out", into=empty)
    with torch.no_grad():
        assert torch.equal(loaded(data), quantized(data))
