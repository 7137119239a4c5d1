"""Folders that others quantized: their weights are what those libraries mean, their codes are written as they are."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors import ModelCompressor
from compressed_tensors.quantization import QuantizationConfig, apply_quantization_config
from safetensors.torch import load_file, save_file
from torch import nn

import quant
from quant.errors import ModelError
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.tensors import pack_linear, unpack_linear
from quant.pipelines.inputs.table import open_files
from quant.recipe import Recipe

N, K = 136, 256
LAYERS = ("blocks.0.up", "blocks.1.up")
Tensors = dict[str, torch.Tensor]


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"up": nn.Linear(K, N)}) for _ in range(2))
        self.out = nn.Linear(N, 8)


def original() -> Tensors:
    torch.manual_seed(0)
    return {name: tensor.detach().clone() for name, tensor in Blocks().state_dict().items()}


def by_llm_compressor(folder: Path, scheme: Scheme) -> tuple[Tensors, Tensors]:
    """A folder as compressed-tensors' own compressor writes it; its tensors, and what the library says they mean."""
    torch.manual_seed(0)
    model = Blocks().requires_grad_(False)
    group = {"targets": ["Linear"], **scheme.to_dict()}
    body = {"quant_method": "compressed-tensors", "format": scheme.format, "quantization_status": "compressed"}
    config = QuantizationConfig.model_validate({**body, "config_groups": {"group_0": group}, "ignore": ["out"]})
    apply_quantization_config(model, config)
    for name in LAYERS:
        layer: Any = model.get_submodule(name)
        weight: torch.Tensor = layer.weight
        weights = scheme.weights
        assert weights is not None
        # Other scales than this library's, so that codes go to the end that it never writes.
        amax = {
            "tensor": weight.abs().max().reshape(1),
            "channel": weight.abs().amax(1, keepdim=True),
            "group": weight.reshape(N, -1, 128).abs().amax(2),
        }[weights.strategy]
        if not weights.symmetric:
            layer.weight_zero_point.copy_(torch.randint(-8, 8, layer.weight_zero_point.shape))
        most = 448 if weights.type == "float" else 2 ** (weights.num_bits - 1) - 0.5
        layer.weight_scale.copy_((amax / most).to(torch.bfloat16))
        if scheme.has_static_input:
            layer.input_scale.fill_(0.25)
    compressor = ModelCompressor(quantization_config=config)
    compressor.compress_model(model)
    stored = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    folder.mkdir()
    save_file(stored, folder / "model.safetensors")
    written = config.model_dump(exclude_none=True, mode="json")
    (folder / "config.json").write_text(json.dumps({"quantization_config": {**body, **written}}))
    compressor.decompress_model(model)
    meant = {f"{name}.weight": model.get_parameter(f"{name}.weight").detach() for name in LAYERS}
    return stored, meant


def recipe(scheme: Scheme | str) -> Recipe:
    value: Any = scheme
    if isinstance(scheme, Scheme):
        value = {key: part for key, part in scheme.to_dict().items() if key != "format"}
    return Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": value}]}, name="same")


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """What can be compared, which FP8 cannot."""
    return tensor.view(torch.uint8) if tensor.itemsize == 1 else tensor


READ = ["FP8_DYNAMIC", "FP8", "W8A8", "W8A16", "W4A16", "W4A16_ASYM", "W4A8"]


@pytest.mark.parametrize("name", READ)
def test_weights_are_what_compressed_tensors_means(tmp_path: Path, name: str) -> None:
    _, meant = by_llm_compressor(tmp_path / "model", SCHEMES[name])
    plans = open_files(tmp_path / "model").tensors(torch.float32)
    assert plans.keys() == original().keys()
    for key, expected in meant.items():
        assert torch.equal(plans[key].whole(), expected)
        for start, stop in ((0, 3), (5, 130), (128, 136), (133, 134)):
            assert torch.equal(plans[key].rows(start, stop), expected[start:stop])
    assert torch.equal(plans["out.weight"].whole(), original()["out.weight"])


@pytest.mark.parametrize("name", [name for name in READ if not SCHEMES[name].has_static_input])
def test_the_same_scheme_keeps_every_code_and_scale(tmp_path: Path, name: str) -> None:
    stored, _ = by_llm_compressor(tmp_path / "model", SCHEMES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error", quant.errors.QuantWarning)
        made = quant.calibrate(tmp_path / "model", recipe(name), tmp_path / "out", progress=False)
    (file,) = (tmp_path / "out").glob("*.safetensors")
    found = load_file(file)
    for key, tensor in found.items():
        if key.startswith("blocks."):
            theirs = stored[key] if tensor.itemsize == 1 else stored[key].to(tensor.dtype)
            assert torch.equal(bits(tensor), bits(theirs))
    assert {each["scheme"] for each in made.layers[""] if each["name"] in LAYERS} == {name}
    assert {each["weight_error"] for each in made.layers[""] if each["name"] in LAYERS} == {0.0}
    into = Blocks()
    quant.load(tmp_path / "out", into=into)


def test_another_scheme_rounds_a_second_time_and_says_so(tmp_path: Path) -> None:
    _, meant = by_llm_compressor(tmp_path / "model", SCHEMES["W8A8"])
    with pytest.warns(
        UserWarning, match=r"2 layers are quantized already in another way, such as 'blocks\.0\.up'; their"
    ):
        quant.calibrate(
            tmp_path / "model", recipe("FP8_DYNAMIC"), tmp_path / "out", progress=False, dtype=torch.float32
        )
    (file,) = (tmp_path / "out").glob("*.safetensors")
    found = load_file(file)
    layer = LayerFormat(SCHEMES["FP8_DYNAMIC"])
    for name in LAYERS:
        for leaf, tensor in pack_linear(meant[f"{name}.weight"], layer).items():
            assert torch.equal(found[f"{name}.{leaf}"].float(), tensor.float())


def test_scales_that_a_checkpoint_does_not_hold_are_refused_for_the_same_scheme_only(tmp_path: Path) -> None:
    stored, _ = by_llm_compressor(tmp_path / "model", SCHEMES["W4A16"])
    name = "blocks.1.up.weight_scale"
    scale = (stored[name] * 1.001).half()
    save_file({**stored, name: scale}, tmp_path / "model" / "model.safetensors")
    codes = {leaf: stored[f"blocks.1.up.{leaf}"] for leaf in ("weight_packed", "weight_shape")}
    meant = unpack_linear({**codes, "weight_scale": scale}, LayerFormat(SCHEMES["W4A16"]))
    assert torch.equal(open_files(tmp_path / "model").tensors(torch.float32)["blocks.1.up.weight"].whole(), meant)
    says = rf"tensor '{name}' is F16, and bfloat16, in which it would be written, has not all of its values"
    with pytest.raises(ModelError, match=says):
        quant.calibrate(tmp_path / "model", recipe("W4A16"), tmp_path / "out", progress=False)


def by_modelopt(folder: Path, algorithm: str, own_file: bool) -> Tensors:
    """As ModelOpt's export writes FP8: scales that are numbers, or one a row."""
    tensors = original()
    by_row = algorithm == "FP8_PER_CHANNEL_PER_TOKEN"
    for i, name in enumerate(LAYERS):
        weight = tensors[f"{name}.weight"]
        scale = (weight.abs().amax(1) if by_row else weight.abs().max()) / 448
        tensors[f"{name}.weight"] = (weight / (scale[:, None] if by_row else scale)).to(torch.float8_e4m3fn)
        tensors[f"{name}.weight_scale"] = scale
        if not by_row:
            tensors[f"{name}.input_scale"] = torch.tensor(0.5 + i)
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    says = {"quant_algo": algorithm, "exclude_modules": ["out"]}
    if own_file:
        body = {"producer": {"name": "modelopt", "version": "0.47.0"}, "quantization": says}
        (folder / "hf_quant_config.json").write_text(json.dumps(body))
    else:
        (folder / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "modelopt", **says}}))
    return tensors


@pytest.mark.parametrize("own_file", [True, False])
@pytest.mark.parametrize("algorithm", ["FP8", "FP8_PER_CHANNEL_PER_TOKEN"])
def test_modelopts_fp8_keeps_its_codes_and_scales(tmp_path: Path, algorithm: str, own_file: bool) -> None:
    stored = by_modelopt(tmp_path / "model", algorithm, own_file)
    weights = "tensor" if algorithm == "FP8" else "channel"
    scheme = Scheme.parse(
        {
            "weights": {"num_bits": 8, "type": "float", "strategy": weights},
            "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True},
        }
    )
    quant.calibrate(tmp_path / "model", recipe(scheme), tmp_path / "out", progress=False)
    (file,) = (tmp_path / "out").glob("*.safetensors")
    found = load_file(file)
    for name in LAYERS:
        assert torch.equal(found[f"{name}.weight"].view(torch.uint8), stored[f"{name}.weight"].view(torch.uint8))
        assert torch.equal(found[f"{name}.weight_scale"].flatten(), stored[f"{name}.weight_scale"].flatten())
        meant = unpack_linear(
            {leaf: found[f"{name}.{leaf}"] for leaf in ("weight", "weight_scale")}, LayerFormat(scheme)
        )
        plan = open_files(tmp_path / "model").tensors(torch.float32)[f"{name}.weight"]
        assert torch.equal(plan.whole(), meant)
        assert plan.coded is not None
        assert ("input_scale" in plan.coded.tensors) == (algorithm == "FP8")
        if algorithm == "FP8":
            assert torch.equal(plan.coded.tensors["input_scale"].whole(), stored[f"{name}.input_scale"].reshape(1))
            assert plan.coded.serves(LayerFormat(SCHEMES["FP8"]))


def test_deepseeks_blocks_are_read_as_weights(tmp_path: Path) -> None:
    tensors = original()
    codes = (tensors["blocks.0.up.weight"] * 1000).to(torch.float8_e4m3fn)
    tensors |= {"blocks.0.up.weight": codes, "blocks.0.up.weight_scale_inv": torch.full((2, 2), 0.001)}
    save_file(tensors, tmp_path / "model.safetensors")
    says = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": says}))
    plans = open_files(tmp_path).tensors(torch.float32)
    assert torch.equal(plans["blocks.0.up.weight"].whole(), codes.float() * torch.tensor(0.001))
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": {**says, "weight_block_size": [64, 128]}}))
    with pytest.raises(ModelError, match=r"scales of blocks \[64, 128\] are not read here, only of \[128, 128\]; load"):
        open_files(tmp_path)


def test_compressed_tensors_blocks_are_read_with_their_codes(tmp_path: Path) -> None:
    tensors = original()
    codes = (tensors["blocks.0.up.weight"] * 1000).to(torch.float8_e4m3fn)
    tensors |= {"blocks.0.up.weight": codes, "blocks.0.up.weight_scale": torch.full((2, 2), 0.001)}
    save_file(tensors, tmp_path / "model.safetensors")
    scheme = SCHEMES["FP8_BLOCK"]
    assert scheme.weights is not None
    group = {"targets": ["Linear"], "weights": scheme.weights.to_dict()}
    says: dict[str, Any] = {"quant_method": "compressed-tensors", "config_groups": {"group_0": group}}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": says}))
    weight = open_files(tmp_path).tensors(torch.float32)["blocks.0.up.weight"]
    assert torch.equal(weight.whole(), codes.float() * torch.tensor(0.001))
    assert weight.coded is not None and weight.coded.serves(LayerFormat(scheme))
    says["transform_config"] = {"config_groups": {}, "rotated": True}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": says}))
    with pytest.raises(
        ModelError, match="scales of blocks next to others, or of rotated weights, are not read here; lo"
    ):
        open_files(tmp_path)


NVFP4 = {
    "quant_method": "compressed-tensors",
    "format": "nvfp4-pack-quantized",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16},
        }
    },
}


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4"},
            "ModelOpt's 'NVFP4' is not read here; those are FP8",
        ),
        ({"quant_method": "modelopt", "quant_algo": "MXFP8"}, "ModelOpt's 'MXFP8' is not read here"),
        (NVFP4, "config_groups.group_0"),
        ({"quant_method": "sdnq"}, "quant_method is 'sdnq'"),
        ([], "its quantization must be a mapping"),
    ],
)
def test_what_there_is_no_layout_for_is_refused_by_name(tmp_path: Path, says: object, message: str) -> None:
    by_modelopt(tmp_path / "model", "FP8", own_file=False)
    (tmp_path / "model" / "config.json").write_text(json.dumps({"quantization_config": says}))
    with pytest.raises(ModelError, match=message):
        open_files(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.0.up.pre_quant_scale": torch.ones(K)}, "holds 'blocks.0.up.pre_quant_scale', which is not read here"),
        ({"blocks.0.up.weight_scale": torch.ones(3)}, r"'blocks\.0\.up\.weight_scale' is F32 \[3\], FP8 needs"),
        ({"blocks.0.up.weight": torch.ones(N, K)}, r"'blocks\.0\.up\.weight' is F32 \[136, 256\], FP8 needs"),
        ({"blocks.0.up.input_scale": None}, r"has no tensor 'blocks\.0\.up\.input_scale', which its scheme needs"),
    ],
)
def test_tensors_that_do_not_fit_their_scheme_are_named(
    tmp_path: Path, change: dict[str, torch.Tensor | None], message: str
) -> None:
    tensors = {**by_modelopt(tmp_path / "model", "FP8", own_file=True), **change}
    save_file({k: t for k, t in tensors.items() if t is not None}, tmp_path / "model" / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        open_files(tmp_path / "model")


def test_codes_and_scales_are_checked_when_they_are_written(tmp_path: Path) -> None:
    tensors = by_modelopt(tmp_path / "model", "FP8_PER_CHANNEL_PER_TOKEN", own_file=True)
    tensors["blocks.0.up.weight_scale"][5] = float("nan")
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    with pytest.raises(ModelError, match=r"tensor 'blocks\.0\.up\.weight_scale' holds NaN at \[5, 0\]; a scale"):
        quant.calibrate(tmp_path / "model", recipe("FP8_DYNAMIC"), tmp_path / "out", progress=False)
