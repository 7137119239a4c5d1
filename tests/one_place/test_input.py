"""A kind of files of weights is one object in one list: a toy one is read, quantized and written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import quant
from quant.pipelines.inputs import table
from quant.pipelines.inputs.bare import Bare
from quant.pipelines.inputs.base import Component, Files, InputKind


class Backwards(InputKind):
    """Files whose tensors are named from the end: `weight.up.0.blocks`."""

    def holds(self, files: Files) -> bool:
        return any(name.startswith("weight.") for name in files.tensors)

    def open(self, files: Files) -> Component:
        tensors = {".".join(reversed(name.split("."))): tensor for name, tensor in files.tensors.items()}
        return Bare().open(replace(files, tensors=tensors))


def test_a_kind_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "INPUTS", (Backwards(), *table.INPUTS))
    torch.manual_seed(0)
    weights = {f"weight.up.{i}.blocks": torch.randn(8, 16) for i in range(2)}
    save_file(weights, tmp_path / "model.safetensors")
    made = quant.convert(tmp_path / "model.safetensors", tmp_path / "out", scheme="FP8_DYNAMIC", progress=False)
    assert [layer["name"] for layer in made.layers[""]] == ["blocks.0.up", "blocks.1.up"]
    (file,) = (tmp_path / "out").glob("*.safetensors")
    stored = load_file(file)
    for i in range(2):
        meant = stored[f"blocks.{i}.up.weight"].float() * stored[f"blocks.{i}.up.weight_scale"]
        assert torch.allclose(meant, weights[f"weight.up.{i}.blocks"], rtol=0.07, atol=0.01)
