"""A model of convolutions goes through everything a model of Linears goes through."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from torch import nn

import quant
import quant.diffusers
from quant.errors import CheckpointError
from quant.layers.conv import QuantConv
from quant.layers.replace import quantized_layers

TARGETS = ["Linear", "Conv1d", "Conv2d", "Conv3d"]
GROUPS_OF_32 = {"weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}}


class Net(nn.Module):
    """Windows of 3 x 3, 1 x 1 and 3, and a Linear; the first is called by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(32, 48, 3, padding=1, stride=2)
        self.flat = nn.Conv2d(48, 96, 1)
        self.line = nn.Conv1d(96, 32, 3, padding=1)
        self.last = nn.Linear(32, 40)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.flat(torch.nn.functional.silu(self.wide(input=x)))
        made: torch.Tensor = self.last(self.line(x.flatten(2)).movedim(1, -1))
        return made


def recipe(scheme: Any, **fields: Any) -> quant.Recipe:
    group = {"targets": TARGETS, "scheme": scheme, **fields}
    return quant.Recipe.from_dict({"version": 1, "groups": [group], "calibration": {"rows": 64}})


def built() -> tuple[Net, torch.Tensor]:
    torch.manual_seed(0)
    return Net().eval(), torch.randn(2, 32, 12, 12)


@pytest.mark.parametrize(
    ("scheme", "fields", "bound"),
    [
        ("W8A8", {"algorithm": {"name": "smoothquant", "alpha": 0.5, "rounding": "gptq"}}, 0.015),
        ("FP8", {"algorithm": "mse"}, 0.06),
        (GROUPS_OF_32, {"algorithm": "gptq", "misfits": "keep"}, 0.08),
        (GROUPS_OF_32, {"algorithm": "awq", "misfits": "keep"}, 0.12),
        ("W8A8", {"algorithm": {"name": "svdquant", "rank": 4}}, 0.015),
        ("FP8_DYNAMIC", {"sparsity": {"structure": "2:4", "method": "search"}}, 0.5),
    ],
    ids=str,
)
@torch.no_grad()
def test_it_is_quantized_saved_and_loaded(scheme: Any, fields: Any, bound: float, tmp_path: Path) -> None:
    net, x = built()
    made = quant.quantize(net, recipe(scheme, **fields), forward_loop=lambda model: model(x))
    assert "_conv_forward" not in vars(net.wide)
    out = made(x)
    assert (out - net(x)).norm() / net(x).norm() < bound
    folder = quant.save(made, tmp_path / "out")
    loaded = quant.load(folder, into=copy.deepcopy(net))
    assert torch.equal(loaded(x), out)
    assert quant.verify(folder, progress=False).sound
    (component,) = quant.inspect(folder).components
    assert component.quant_method == "quant"
    found = {layer.name: layer.shape for layer in component.layers if layer.scheme is not None}
    assert found.items() >= {"wide": (48, 288), "line": (32, 288), "last": (40, 32)}.items()
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert {"wide", "line"} <= set(config["ignore"])
    listed = {name: size for group in config["convolutions"].values() for name, size in group["targets"].items()}
    assert listed.items() >= {"wide": [3, 3], "line": [3]}.items()


@torch.no_grad()
def test_gptq_over_windows_is_nearer_than_rounding_to_nearest() -> None:
    net, x = built()
    x = x * torch.linspace(0.1, 3, 32).reshape(1, 32, 1, 1)
    errors = []
    for fields in ({}, {"algorithm": "gptq"}):
        made = quant.quantize(net, recipe(GROUPS_OF_32, misfits="keep", **fields), forward_loop=lambda model: model(x))
        errors.append(float((made.wide(x) - net.wide(x)).norm() / net.wide(x).norm()))
    assert errors[1] < 0.9 * errors[0]


@torch.no_grad()
def test_smoothing_gives_a_channel_one_factor_and_helps() -> None:
    net, x = built()
    x[:, 3] *= 60
    errors = []
    for fields in ({}, {"algorithm": {"name": "smoothquant", "alpha": "search"}}):
        made = quant.quantize(net, recipe("W8A8", **fields), forward_loop=lambda model: model(x))
        errors.append(float((made.wide(x) - net.wide(x)).norm() / net.wide(x).norm()))
    layer = made.wide
    assert isinstance(layer, QuantConv)
    assert layer.pre_quant_scale is not None
    assert layer.pre_quant_scale.shape == (32,)
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize("class_name", ["UNet3DConditionModel", "AutoencoderKLWan"])
@torch.no_grad()
def test_diffusers_loads_it_in_a_fresh_process(class_name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    if class_name == "AutoencoderKLWan":
        model: Any = diffusers.AutoencoderKLWan(
            base_dim=16, z_dim=4, dim_mult=[1, 2], num_res_blocks=1, temperal_downsample=[True]
        )
        given = (torch.randn(1, 4, 2, 4, 4),)
        run = "model.decode(*given).sample"
    else:
        model = diffusers.UNet3DConditionModel(
            block_out_channels=(32, 64), down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), norm_num_groups=8,
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"), layers_per_block=1, cross_attention_dim=32,
            attention_head_dim=8,
        )  # fmt: skip
        given = (torch.randn(1, 4, 2, 8, 8), torch.tensor(7), torch.randn(1, 3, 32))  # type: ignore[assignment]
        run = "model(*given).sample"
    model.eval()
    made = quant.quantize(model, recipe("W8A8"))
    assert any(isinstance(layer, QuantConv) for layer in quantized_layers(made).values())
    made.save_pretrained(tmp_path / "out", max_shard_size="100KB")
    expected = made.decode(*given).sample if "decode" in run else made(*given).sample
    torch.save((given, expected), tmp_path / "given.pt")
    code = (
        f"import torch, quant, quant.diffusers, diffusers; given, expected = torch.load('{tmp_path}/given.pt')\n"
        f"for model in (diffusers.{class_name}.from_pretrained('{tmp_path}/out'), quant.load('{tmp_path}/out')):\n"
        f"    with torch.no_grad(): assert torch.equal({run}, expected)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"wide": [3, 1]}, "'wide' is listed as a convolution of"),
        ({"nowhere": [3, 3]}, "nowhere.*none of the model"),
        ({"last": [1]}, "'last' is listed as a convolution of"),
        ({"wide": [3, -3]}, "sizes, got"),
        ({"wide": "3x3"}, "sizes, got"),
        ([], "must be a mapping of layers"),
    ],
    ids=str,
)
def test_a_config_that_lists_others_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    net, _ = built()
    folder = quant.save(quant.quantize(net, recipe("W8A8")), tmp_path / "out")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    group = config["quantization_config"]["convolutions"]["group_0"]
    group["targets"] = {**group["targets"], **change} if isinstance(change, dict) else change
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=words):
        quant.load(folder, into=net, check_files=False)
    assert not quant.verify(folder, progress=False).sound
