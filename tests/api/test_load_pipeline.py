from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import quant
from quant.api.load_pipeline import find_pipeline, load_pipeline
from quant.errors import QuantError
from quant.layers.linear import QuantLinear
from tests.tiny_pipeline import save_pipeline


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline, its checkpoint of components, and a whole one."""
    folder = tmp_path_factory.mktemp("models")
    save_pipeline(folder / "model")
    for name, full in (("part", False), ("whole", True)):
        quant.calibrate(folder / "model", "fp8-dynamic", folder / name, full=full, progress=False)
    return folder


@pytest.mark.parametrize(
    ("model", "base"),
    [("whole", None), ("part", "model"), ("part/transformer", "model"), ("part", "whole")],
)
def test_a_quantized_denoiser_is_loaded_wherever_it_lies(models: Path, model: str, base: str | None) -> None:
    files = find_pipeline(models / model, base if base is None else models / base)
    pipe = load_pipeline(files, torch.float32)
    assert any(isinstance(module, QuantLinear) for module in pipe.transformer.modules())
    assert not any(hasattr(block, "parts") for block in pipe.transformer.blocks)


@pytest.mark.parametrize(("model", "base"), [("whole", None), ("part", "model")])
def test_denoisers_are_fused_when_asked(models: Path, model: str, base: str | None) -> None:
    files = find_pipeline(models / model, base if base is None else models / base)
    assert all(hasattr(block, "parts") for block in load_pipeline(files, torch.float32, fused=True).transformer.blocks)


def test_an_original_has_nothing_to_fuse(models: Path) -> None:
    with pytest.raises(QuantError, match="no denoiser of it is quantized, so there is none to fuse"):
        load_pipeline(find_pipeline(models / "model"), torch.float32, fused=True)


def test_a_lone_component_is_known_by_its_class_and_then_by_its_name(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "part" / "transformer", tmp_path / "mine")
    assert list(find_pipeline(tmp_path / "mine", models / "model").parts) == ["transformer"]
    shutil.copytree(models / "model", tmp_path / "two")
    index = tmp_path / "two" / "model_index.json"
    body = json.loads(index.read_text())
    index.write_text(json.dumps(body | {"transformer_2": body["transformer"]}))
    shutil.copytree(models / "part" / "transformer", tmp_path / "transformer_2")
    assert list(find_pipeline(tmp_path / "transformer_2", tmp_path / "two").parts) == ["transformer_2"]
    with pytest.raises(QuantError, match=r"of which .* has transformer, transformer_2; give a folder"):
        find_pipeline(tmp_path / "mine", tmp_path / "two")


@pytest.mark.parametrize(
    ("model", "base", "words"),
    [
        ("part", None, "has no model_index.json, so it is no whole pipeline; name its original by --base"),
        ("whole", "model", "is a whole pipeline, which needs no --base"),
        ("part", "part/transformer", "is no pipeline; --base takes the folder of the whole original"),
        ("model/vae", "model", "not a checkpoint|no quantized|is not quantized"),
        ("missing", None, "no such folder"),
    ],
)
def test_what_is_no_pipeline_is_refused(models: Path, model: str, base: str | None, words: str) -> None:
    with pytest.raises(QuantError, match=words):
        find_pipeline(models / model, base if base is None else models / base)


def test_a_component_that_the_base_has_not_is_refused(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "part", tmp_path / "part")
    (tmp_path / "part" / "transformer").rename(tmp_path / "part" / "transformer_2")
    with pytest.raises(QuantError, match="has no component 'transformer_2', which"):
        find_pipeline(tmp_path / "part", models / "model")
