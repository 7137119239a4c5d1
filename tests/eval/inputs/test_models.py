from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quant.errors import QuantError
from quant.eval.inputs.config import ORIGINAL
from quant.eval.inputs.models import Model, describe, find_models, load_pipeline
from quant.layers.linear import QuantLinear
from tests.eval.runs.conftest import tiny


def test_a_candidate_of_components_does_not_read_those_of_the_original(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "model", tmp_path / "model")
    shutil.copytree(models / "part", tmp_path / "part")
    shutil.rmtree(tmp_path / "model" / "transformer")
    _, candidate = find_models(tiny(models, model=str(tmp_path / "model"), candidates={"part": str(tmp_path / "part")}))
    pipeline = load_pipeline(candidate, "float32", "cpu")
    assert any(isinstance(module, QuantLinear) for module in pipeline.transformer.modules())
    assert pipeline.vae is not None and pipeline.text_encoder is not None


def test_a_pipeline_that_diffusers_does_not_have_is_refused_for_components(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "model", tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "OurOwnPipeline"}))
    config = tiny(models, model=str(tmp_path / "model"), candidates={"part": str(models / "part")})
    with pytest.raises(
        QuantError, match=r"diffusers has no pipeline 'OurOwnPipeline', which its model_index\.json names"
    ):
        load_pipeline(find_models(config)[1], "float32", "cpu")


@pytest.mark.parametrize("part", ["transformer", "transformer_2", "unet"])
def test_the_size_of_a_denoiser_is_that_of_its_values(tmp_path: Path, part: str) -> None:
    (tmp_path / part).mkdir()
    save_file({"w": torch.zeros(3, 5), "b": torch.zeros(7)}, tmp_path / part / "a.safetensors")
    found = describe(Model(ORIGINAL, "m", tmp_path, "0"))
    assert found["bf16_bytes"] == 2 * (15 + 7)
    assert found["stored_bytes"] == (tmp_path / part / "a.safetensors").stat().st_size


def test_a_folder_without_a_denoiser_has_no_size(tmp_path: Path) -> None:
    found = describe(Model(ORIGINAL, "m", tmp_path, "0"))
    assert (found["bf16_bytes"], found["stored_bytes"]) == (None, None)
