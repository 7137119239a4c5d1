"""What others quantized becomes a checkpoint of this program with their codes and scales, static ones too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import quant
from quant.errors import QuantError
from quant.formats.int4 import Int4
from quant.formats.int8_weight_only import Int8WeightOnly
from quant.layers.replace import quantized_layers
from tests.exporting.meaning import converted, is_same, stored
from tests.pipelines.inputs.test_original import Tensors, wan

FILE = "diffusion_pytorch_model.safetensors"


def scaled_fp8(model: Path, file: Path, mark: int) -> tuple[Tensors, Tensors]:
    """Writes ComfyUI's old kind of file, with 1 or 2 elements in its mark; returns codes and scales by our names."""
    tensors = load_file(model / "transformer" / FILE)
    names = {name: next(iter(wan({name: tensor}))) for name, tensor in tensors.items()}
    written: Tensors = {"scaled_fp8": torch.zeros(mark, dtype=torch.float8_e4m3fn)}
    codes, scales = {}, {}
    for name, tensor in tensors.items():
        if not (name.startswith("blocks.") and name.endswith(".weight") and tensor.ndim == 2):
            written[names[name]] = tensor
            continue
        layer, theirs = name.removesuffix(".weight"), names[name].removesuffix(".weight")
        scales[layer] = tensor.float().abs().amax() / 400  # no range of ours
        codes[layer] = (tensor.float() / scales[layer]).to(torch.float8_e4m3fn)
        written |= {f"{theirs}.weight": codes[layer], f"{theirs}.scale_weight": scales[layer]}
        written[f"{theirs}.scale_input"] = torch.tensor(0.03)
    save_file(written, file)
    return codes, scales


def same_bytes(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return torch.equal(found.reshape(-1).view(torch.uint8), wanted.reshape(-1).view(torch.uint8))


def test_comfyuis_static_fp8_runs_here(model_folder: Path, tmp_path: Path) -> None:
    codes, scales = scaled_fp8(model_folder, tmp_path / "comfy.safetensors", mark=1)
    config = model_folder / "transformer"
    with pytest.raises(QuantError, match="quant export --to compressed-tensors keeps them"):
        quant.convert(tmp_path / "comfy.safetensors", tmp_path / "no", scheme="FP8", config=config)
    quant.export(tmp_path / "comfy.safetensors", tmp_path / "out", to="compressed-tensors", config=config)
    layers = quantized_layers(quant.load(tmp_path / "out"))
    assert {*layers} == {*codes}
    for name, layer in layers.items():
        tensors = layer.state_dict()
        assert layer.layer_format.scheme.name == "FP8"
        assert same_bytes(tensors["weight"], codes[name])
        assert tensors["weight_scale"].item() == scales[name].item()
        assert tensors["input_scale"].item() == torch.tensor(0.03).item()
    quant.export(tmp_path / "out", tmp_path / "again", to="comfyui")
    first, second = load_file(tmp_path / "comfy.safetensors"), load_file(tmp_path / "again" / "again.safetensors")
    assert {*first} == {*second}
    # What diffusers keeps in float32 is widened.
    assert all(torch.equal(second[name].float(), tensor.float()) for name, tensor in first.items())
    assert all(second[name].dtype == tensor.dtype for name, tensor in first.items() if tensor.itemsize == 1)


def test_codes_whose_inputs_stay_in_16_bits_are_weights_to_round(model_folder: Path, tmp_path: Path) -> None:
    scaled_fp8(model_folder, tmp_path / "comfy.safetensors", mark=2)
    config = model_folder / "transformer"
    with pytest.raises(QuantError, match="no layer of it is quantized in a scheme of this program"):
        quant.export(tmp_path / "comfy.safetensors", tmp_path / "out", to="compressed-tensors", config=config)


def test_modelopts_static_fp8_runs_here(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    quant.export(checkpoints["fp8-static"], tmp_path / "theirs", to="modelopt")
    with pytest.raises(QuantError, match="quant export --to compressed-tensors"):
        quant.load(tmp_path / "theirs")
    quant.export(tmp_path / "theirs", tmp_path / "out", to="compressed-tensors")
    meant, codes = stored(checkpoints["fp8-static"])
    again, codes_again = stored(tmp_path / "out")
    assert all(is_same(again[name], tensor) for name, tensor in meant.items())
    assert all(codes_again[name]["input_scale"] == layer["input_scale"] for name, layer in codes.items())


def one_in_a_byte(checkpoint: Path, folder: Path, unpack: Any) -> None:
    """As llm-compressor stores groups of W4A8: int8 codes under `int-quantized`, without their shape."""
    folder.mkdir()
    tensors = load_file(checkpoint / "transformer" / FILE)
    for name in [name for name in tensors if name.endswith(".weight_packed")]:
        layer = name.removesuffix(".weight_packed")
        n, k = tensors.pop(f"{layer}.weight_shape").tolist()
        tensors[f"{layer}.weight"] = unpack(tensors.pop(name), k)
        assert tensors[f"{layer}.weight"].shape == (n, k)
    save_file(tensors, folder / FILE)
    config = json.loads((checkpoint / "transformer" / "config.json").read_text())
    said = config["quantization_config"]
    for group in (said, *said["config_groups"].values()):
        group["format"] = "int-quantized"
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(("scheme", "unpack"), [("W4A8", Int4.unpack), ("W8A16", Int8WeightOnly.unpack)])
def test_groups_of_int8_codes_are_packed_as_they_are(
    model_folder: Path, tmp_path: Path, scheme: str, unpack: Any
) -> None:
    checkpoint = converted(model_folder, scheme)
    one_in_a_byte(checkpoint, tmp_path / "theirs", unpack)
    with pytest.raises(QuantError, match="quant convert packs codes that lie one in a byte"):
        quant.load(tmp_path / "theirs")
    quant.convert(tmp_path / "theirs", tmp_path / "out", scheme=scheme, progress=False)
    wanted = load_file(checkpoint / "transformer" / FILE)
    found = load_file(tmp_path / "out" / FILE)
    assert all(is_same(found[name], tensor) for name, tensor in wanted.items())
    quant.convert(tmp_path / "theirs", tmp_path / "wide", scheme="W8A8", progress=False)
    meant, _ = stored(checkpoint)
    again, _ = stored(tmp_path / "wide")
    for name, tensor in meant.items():
        assert torch.allclose(again[name].float(), tensor.float(), atol=float(tensor.float().abs().max()) / 127)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda weight, scale: (weight + 9, scale),
            r"'blocks\.0\.attn1\.to_q\.weight' holds codes of more than 4 bits",
        ),
        (
            lambda weight, scale: (weight.int(), scale),
            r"to_q\.weight' is I32 \[64, 64\]: read here are symmetric codes",
        ),
        (
            lambda weight, scale: (weight, scale[:, :0]),
            r"to_q\.weight_scale' is BF16 \[64, 0\], W4A8_G64 has \[64, 1\]",
        ),
        (lambda weight, scale: (weight, scale * float("nan")), r"to_q\.weight_scale'"),
    ],
)
def test_codes_that_are_none_are_refused(model_folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    folder = tmp_path / "theirs"
    one_in_a_byte(converted(model_folder, "W4A8"), folder, Int4.unpack)
    tensors = load_file(folder / FILE)
    layer = "blocks.0.attn1.to_q"
    made = change(tensors[f"{layer}.weight"], tensors[f"{layer}.weight_scale"])
    tensors |= {f"{layer}.weight": made[0].contiguous(), f"{layer}.weight_scale": made[1].contiguous()}
    save_file(tensors, folder / FILE)
    with pytest.raises(QuantError, match=message):
        quant.convert(folder, tmp_path / "out", scheme="W4A8", progress=False)
