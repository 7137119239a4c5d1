"""`quant.inspect` against sums made by hand and against the files themselves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import quant
from tests.tiny_checkpoints import RECIPES
from tests.tiny_pipeline import LINEARS, WIDTH


@pytest.mark.parametrize("recipe", RECIPES)
def test_totals_are_those_of_the_file(checkpoints: dict[str, Path], model_folder: Path, recipe: str) -> None:
    (component,) = quant.inspect(checkpoints[recipe]).components
    name = "transformer/diffusion_pytorch_model.safetensors"
    stored, original = load_file(checkpoints[recipe] / name), load_file(model_folder / name)
    assert component.name == "transformer"
    assert component.nbytes == sum(tensor.nbytes for tensor in stored.values())
    assert component.bf16_nbytes == sum(2 * tensor.numel() for tensor in original.values())
    assert component.compression == component.bf16_nbytes / component.nbytes
    assert component.quant_method == ("quant" if recipe == "w8a8" else "compressed-tensors")
    assert sum(layer.scheme is not None for layer in component.layers) == LINEARS
    assert all(layer.reason for layer in component.layers if layer.scheme is None)


def test_bits_per_weight(checkpoints: dict[str, Path]) -> None:
    layers = {layer.name: layer for layer in quant.inspect(checkpoints["fp8-dynamic"]).components[0].layers}
    layer = layers["blocks.0.attn1.to_q"]
    assert layer.bits_per_weight == 8 + 32 / WIDTH  # codes, and one float32 scale a row
    assert layer.nbytes == WIDTH * WIDTH + 4 * WIDTH + 2 * WIDTH  # and a bf16 bias
    assert layer.weight_error is not None
    assert 0 < layer.weight_error < 0.04
    assert layers["proj_out"].bits_per_weight == 16


def test_plain_data(checkpoints: dict[str, Path]) -> None:
    found = quant.inspect(checkpoints["w8a8"]).to_dict()
    assert json.loads(json.dumps(found))["components"][0]["compression"] > 1
    assert found["provenance"]["recipe"]["name"] == "general/w8a8"
    assert "files" not in found["provenance"]
    layers = found["components"][0]["layers"]
    assert any(layer["scheme"] == "W8A8" for layer in layers)
    assert not any("layer_format" in layer for layer in layers)


def test_a_component_alone_and_one_without_a_manifest(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = quant.inspect(checkpoints["w8a8"]).components[0].layers
    monkeypatch.chdir(checkpoints["w8a8"] / "transformer")
    assert quant.inspect(".").components[0].layers == whole
    assert quant.inspect(checkpoints["w8a8"] / "transformer").components[0].layers == whole
    model = quant.load(checkpoints["w8a8"], dtype=torch.bfloat16)
    model.save_pretrained(tmp_path / "saved")  # type: ignore[operator]
    found = quant.inspect(tmp_path / "saved")
    assert found.provenance == {}
    assert sum(layer.scheme is not None for layer in found.components[0].layers) == LINEARS
    assert all(layer.weight_error is None for layer in found.components[0].layers)


def test_what_is_no_checkpoint(model_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(quant.QuantError, match="holds no quantized component"):
        quant.inspect(model_folder)
    with pytest.raises(quant.QuantError, match="no such checkpoint folder"):
        quant.inspect(tmp_path / "missing")
