"""Plain compressed-tensors: that library reads it, and so does this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from compressed_tensors.quantization import QuantizationConfig

import quant
from quant.errors import QuantError
from quant.exporting.contents import _more
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.steps import PreciseSteps
from quant.recipe import Recipe
from tests.exporting.meaning import converted, is_same, stored


@pytest.mark.parametrize("scheme", ["W8A8", "W4A16"])
def test_it_is_the_same_without_our_entries(model_folder: Path, tmp_path: Path, scheme: str) -> None:
    checkpoint = converted(model_folder, scheme)
    quant.export(checkpoint, tmp_path / "out", to="compressed-tensors")
    said = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(said)
    assert {*said} == {"quant_method", "format", "quantization_status", "config_groups", "ignore"}
    assert config.ignore == said["ignore"] != []
    meant, codes = stored(checkpoint)
    again, codes_again = stored(tmp_path / "out")
    assert all(is_same(again[name], tensor) for name, tensor in meant.items())
    for name, layer in codes.items():
        assert all(is_same(codes_again[name][leaf], tensor) for leaf, tensor in layer.items())


def test_packed_layers_of_t5_do_not_carry_a_name_that_transformers_fails_on(model_folder: Path, tmp_path: Path) -> None:
    for scheme in ("W8A16", "W8A8"):
        groups = [{"targets": ["Linear"], "scheme": scheme, "misfits": "adapt"}]
        recipe = Recipe.from_dict({"version": 1, "components": ["text_encoder"], "groups": groups})
        quant.convert(model_folder, tmp_path / scheme, recipe=recipe, progress=False)
    with pytest.raises(QuantError, match=r"has packed codes, and transformers' T5 .*W8A8"):
        quant.export(tmp_path / "W8A16", tmp_path / "out", to="compressed-tensors")
    assert quant.export(tmp_path / "W8A8", tmp_path / "out", to="compressed-tensors").files == ("model.safetensors",)


def test_zeros_of_sparse_weights_stay_and_no_reader_is_asked_to_know_them(model_folder: Path, tmp_path: Path) -> None:
    sparse = tmp_path / "sparse"
    quant.convert(model_folder, sparse, scheme="FP8_DYNAMIC", sparsity="2:4", progress=False)
    quant.export(sparse, tmp_path / "out", to="compressed-tensors")
    assert "sparsity_config" not in (tmp_path / "out" / "config.json").read_text()
    meant, _ = stored(sparse)
    again, _ = stored(tmp_path / "out")
    assert all(is_same(again[name], tensor) for name, tensor in meant.items())


def test_what_goes_by_the_timestep_is_named() -> None:
    steps = PreciseSteps(above=900.0, up_to=None, first=3, last=0, of=50)
    assert _more(LayerFormat(SCHEMES["W8A8"], steps=steps)) == "has inputs as they are in the first 3 of 50 steps"
    assert _more(LayerFormat(SCHEMES["FP8"], bins=4)) == "has 4 static ranges by timestep"
    assert _more(LayerFormat(SCHEMES["W8A8"])) is None
