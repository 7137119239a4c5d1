"""The model a user names: what is none is called what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import quant
from quant.errors import ModelError
from quant.pipelines.source import components_of, open_source
from quant.recipe_files import find_recipe


@pytest.mark.parametrize("name", ["wan.pt", "wan.gguf", "model_index.json"])
def test_a_single_file_is_called_a_file_everywhere(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"GGUF")
    ways = (
        lambda: open_source(path),
        lambda: quant.calibrate(path, "fp8-dynamic", tmp_path / "out", progress=False),
        lambda: quant.measure_sensitivity(path, "fp8-dynamic", ["a"], progress=False),
        lambda: quant.load(path),
        lambda: quant.inspect(path),
        lambda: quant.quantize(path, "fp8-dynamic"),
    )
    for way in ways:
        with pytest.raises(quant.QuantError, match=rf"{name}: is a (GGUF )?file[,;]"):
            way()


def test_a_damaged_file_of_weights_is_named(tmp_path: Path) -> None:
    path = tmp_path / "wan.safetensors"
    path.write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"wan\.safetensors: truncated or damaged"):
        open_source(path).component("model")


def test_folders_of_other_libraries(tmp_path: Path, model_folder: Path) -> None:
    config = tmp_path / "config.json"
    assert open_source(model_folder / "text_encoder").classes == {"model": ""}
    config.write_text(json.dumps({"architectures": ["UMT5EncoderModel"]}))
    with pytest.raises(ModelError, match=r"is a transformers model, 'UMT5EncoderModel'; .*; give the folder of the"):
        open_source(tmp_path)  # of which there are no weights
    kinds: tuple[object, ...] = (5, None, [])
    for value in kinds:
        config.write_text(json.dumps({"_class_name": value}))
        with pytest.raises(ModelError, match=r"config\.json: _class_name must name a diffusers class, got "):
            open_source(tmp_path)
    theirs: tuple[tuple[object, str], ...] = (({"quant_method": "sdnq"}, "'sdnq'"), ([], r"\[\]"), ({}, "None"))
    for quantization, by in theirs:
        config.write_text(json.dumps({"_class_name": "WanTransformer3DModel", "quantization_config": quantization}))
        with pytest.raises(ModelError, match=rf"config\.json: is quantized already \({by}\); calibrate the original"):
            components_of(open_source(tmp_path), find_recipe("fp8-dynamic", "wan"))
    config.write_text(json.dumps({"_class_name": "WanTransformer3DModel", "quantization_config": None}))
    assert components_of(open_source(tmp_path), find_recipe("fp8-dynamic", "wan")) == ["transformer"]
