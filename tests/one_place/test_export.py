"""An export that only this file knows is written, inspected, loaded by `quant` and by diffusers, and run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from diffusers.quantizers import auto

import quant
from quant.api import hf_quantizer
from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.exports import table
from quant.checkpoint.exports.base import Export
from quant.errors import CheckpointError
from quant.formats.layer import LayerFormat
from quant.formats.scheme import Scheme
from quant.layers.replace import quantized_layers
from quant.recipe import Recipe
from tests.tiny_pipeline import LINEARS, save_pipeline


class Listed(Export):
    """A config that names each layer and its scheme, for readers that know W8A8 and nothing else."""

    name = "listed"

    def takes(self, layers: Mapping[str, LayerFormat], *, standard: bool) -> bool:
        return all(layer_format == LayerFormat(Scheme.parse("W8A8")) for layer_format in layers.values())

    def config(self, layers: Mapping[str, LayerFormat], kept: Iterable[str]) -> dict[str, Any]:
        return {"int8": list(layers), "others": list(kept)}

    def layers(self, config: Mapping[str, Any], linears: Iterable[str], where: str) -> dict[str, LayerFormat]:
        absent = set(config["int8"]) - set(linears)
        if absent:
            raise CheckpointError(f"{where}: int8: the model has no {min(absent)}")
        return {name: LayerFormat(Scheme.parse("W8A8")) for name in config["int8"]}

    def kept(self, config: Mapping[str, Any], where: str) -> list[str]:
        return list(config["others"])

    def sparse(self, config: Mapping[str, Any], where: str) -> list[str]:
        return []


def _recipe(scheme: str) -> Recipe:
    return Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear"], "scheme": scheme}]})


def test_an_export_is_one_object(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(table, "EXPORTS", (Listed(), *table.EXPORTS))
    for mapping in ("AUTO_QUANTIZER_MAPPING", "AUTO_QUANTIZATION_CONFIG_MAPPING"):
        monkeypatch.setattr(auto, mapping, dict(getattr(auto, mapping)))
    hf_quantizer.register()
    model = save_pipeline(tmp_path / "model")
    made = {
        scheme: quant.calibrate(model, _recipe(scheme), tmp_path / scheme, progress=False).folder
        for scheme in ("W8A8", "FP8_DYNAMIC")
    }

    config = json.loads((made["W8A8"] / "transformer" / "config.json").read_text())[CONFIG_KEY]
    assert config["quant_method"] == "listed" and len(config["int8"]) == LINEARS and "config_groups" not in config
    other = json.loads((made["FP8_DYNAMIC"] / "transformer" / "config.json").read_text())[CONFIG_KEY]
    assert other["quant_method"] == "compressed-tensors"

    (component,) = quant.inspect(made["W8A8"]).components
    assert component.quant_method == "listed"
    assert sum(layer.scheme == "W8A8" for layer in component.layers) == LINEARS
    assert {layer.name for layer in component.layers if layer.scheme is None} >= set(config["others"]) > set()

    folder = made["W8A8"] / "transformer"
    loaded = (quant.load(folder), WanTransformer3DModel.from_pretrained(folder))
    for each in loaded:
        assert len(quantized_layers(each)) == LINEARS
    states = [each.state_dict() for each in loaded]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())

    quant.save(loaded[0], tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())[CONFIG_KEY]
    assert saved["quant_method"] == "listed"
