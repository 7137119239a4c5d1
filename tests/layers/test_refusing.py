"""Methods that would make something wrong of a quantized model refuse in one line with the remedy."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import nn

import quant
import quant.diffusers
from tests import tiny_pipeline


@pytest.fixture(scope="module")
def model() -> WanTransformer3DModel:
    made: WanTransformer3DModel = quant.quantize(tiny_pipeline.transformer(), "fp8-dynamic")
    return made


def test_fused_projections(model: WanTransformer3DModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    models = (
        model,
        copy.deepcopy(model),
        torch.load(file, weights_only=False),
        quant.load(tmp_path, check_files=False),
        WanTransformer3DModel.from_pretrained(tmp_path),
    )
    each: Any
    for each in models:
        with pytest.raises(quant.QuantError, match=r"cannot fuse .* quant\.load\(\.\.\., fused=True\) does"):
            each.fuse_qkv_projections()


def test_a_part_of_a_text_encoder_does_not_save_itself(tmp_path: Path) -> None:
    pipe = tiny_pipeline.pipeline()
    named = {"version": 1, "components": ["text_encoder"], "groups": [{"targets": ["Linear"], "scheme": "FP8_DYNAMIC"}]}
    made = quant.quantize(pipe, quant.Recipe.from_dict(named, "r.yaml"))
    for encoder in (made.text_encoder, copy.deepcopy(made.text_encoder)):
        with pytest.raises(quant.QuantError, match=r"would write codes .* write it with quant\.save"):
            encoder.encoder.save_pretrained(tmp_path / "alone")  # transformers' models hold others
        with pytest.raises(quant.QuantError, match="take no LoRA"):
            encoder.add_adapter(None)
    assert not (tmp_path / "alone").exists()


def test_a_diffusers_model_within_another_module_does_not_save_itself(tmp_path: Path) -> None:
    made: Any = quant.quantize(nn.ModuleDict({"wan": tiny_pipeline.transformer()}), "fp8-dynamic")
    with pytest.raises(quant.QuantError, match="would write codes"):
        made["wan"].save_pretrained(tmp_path / "out")


def test_a_state_is_not_loaded_into_the_original(model: WanTransformer3DModel) -> None:
    with pytest.raises(RuntimeError, match="weight_scale"):
        tiny_pipeline.transformer().load_state_dict(model.state_dict())
