"""FP8 as ModelOpt's readers describe it: scales that are numbers or one a row, layers that are not FP8 in `ignore`."""

from __future__ import annotations

import fnmatch
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import quant
from quant.errors import QuantError
from quant.recipe import Recipe
from tests.exporting.meaning import converted, is_same, stored


@pytest.mark.parametrize("recipe", ["fp8-static", "FP8_DYNAMIC"])
def test_readers_of_modelopt_find_the_weights_we_mean(
    model_folder: Path, checkpoints: dict[str, Path], tmp_path: Path, recipe: str
) -> None:
    checkpoint = checkpoints.get(recipe) or converted(model_folder, recipe)
    static = recipe == "fp8-static"
    quant.export(checkpoint, tmp_path / "out", to="modelopt")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["_class_name"] == "WanTransformer3DModel"
    quantization = config["quantization_config"]
    assert quantization["quant_method"] == "modelopt"
    assert quantization["quant_algo"] == ("FP8" if static else "FP8_PER_CHANNEL_PER_TOKEN")
    meant, codes = stored(checkpoint)
    found = load_file(tmp_path / "out" / "diffusion_pytorch_model.safetensors")
    for name, tensor in meant.items():
        layer = name.removesuffix(".weight")
        # SGLang's rule: a pattern is of the whole name, or of its first part.
        ignored = any(fnmatch.fnmatch(part, p) for part in (layer, layer.split(".")[0]) for p in quantization["ignore"])
        if layer in codes:
            scale = found.pop(f"{layer}.weight_scale")
            assert not ignored and scale.dtype == torch.float32
            assert scale.shape == (() if static else (len(tensor),))
            weight = found.pop(name)
            assert weight.dtype == torch.float8_e4m3fn
            assert torch.equal(weight.float() * scale.reshape(-1, 1), tensor)
            if static:
                input_scale = found.pop(f"{layer}.input_scale")
                assert input_scale.shape == () and input_scale == codes[layer]["input_scale"].item()
        else:
            assert is_same(found.pop(name), tensor)
            linear = name.endswith(".weight") and tensor.ndim == 2
            assert ignored == linear or not name.endswith(".weight")
    assert not found


def test_what_modelopt_reads_is_read_here(model_folder: Path, tmp_path: Path) -> None:
    checkpoint = converted(model_folder, "FP8_DYNAMIC")
    quant.export(checkpoint, tmp_path / "out", to="modelopt")
    quant.convert(tmp_path / "out", tmp_path / "again", scheme="FP8_DYNAMIC", progress=False)
    meant, _ = stored(checkpoint)
    again, _ = stored(tmp_path / "again")
    assert all(is_same(again[name], tensor) for name, tensor in meant.items())


def test_two_schemes_are_refused_by_layer(model_folder: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    groups = [
        {"targets": ["re:blocks\\.0\\..*"], "scheme": "FP8_DYNAMIC"},
        {"targets": ["Linear"], "scheme": "W8A8"},
    ]
    recipe = Recipe.from_dict({"version": 1, "groups": groups})
    mixed = quant.convert(model_folder, tmp_path / "mixed", recipe=recipe, progress=False).folder
    with pytest.raises(QuantError, match=r"'blocks\.1\.attn1\.to_q' is W8A8, .*10 of 20.*schemes FP8 and FP8_DYNAMIC"):
        quant.export(mixed, tmp_path / "out", to="modelopt")
