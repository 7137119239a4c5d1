"""HunyuanVideo, whose authors have one layer where diffusers has q, k and v."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import quant
from quant.errors import QuantError
from quant.recipe import Recipe
from tests.exporting.meaning import is_same, stored
from tests.exporting.test_comfyui import read
from tests.pipelines.inputs.test_original import hunyuan
from tests.tiny_models import ModelMaker

FP8 = {
    "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"},
    "input_activations": {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True},
}


@pytest.fixture
def model(make_model: ModelMaker, tmp_path: Path) -> Path:
    made = make_model("HunyuanVideoTransformer3DModel", device="cpu", num_single_layers=0, guidance_embeds=True)
    torch.manual_seed(0)
    for tensor in made.state_dict().values():
        nn.init.normal_(tensor)
    made.save_pretrained(tmp_path / "model")  # type: ignore[operator]
    return tmp_path / "model"


def converted(model: Path, *groups: dict[str, object], ignore: tuple[str, ...] = ()) -> Path:
    recipe = Recipe.from_dict({"version": 1, "groups": list(groups), "ignore": list(ignore)})
    return quant.convert(model, model.parent / "quantized", recipe=recipe, dtype=torch.float32, progress=False).folder


def test_rows_of_joined_layers_keep_their_scales(model: Path, tmp_path: Path) -> None:
    checkpoint = converted(model, {"targets": ["Linear"], "scheme": "W8A8"})
    quant.export(checkpoint, tmp_path / "out", to="comfyui")
    layers, rest = read(tmp_path / "out" / "out.safetensors")
    meant, _ = stored(checkpoint)
    expected = hunyuan(meant)
    assert {*rest, *(f"{layer}.weight" for layer in layers)} == {*expected}
    assert all(is_same(layer.weight, expected[f"{name}.weight"]) for name, layer in layers.items())
    assert all(is_same(tensor, expected[name]) for name, tensor in rest.items())
    assert {"double_blocks.0.img_attn_qkv", "double_blocks.1.txt_attn_qkv"} <= {*layers}


def test_one_scale_each_is_not_one_for_all(model: Path, tmp_path: Path) -> None:
    checkpoint = converted(model, {"targets": ["Linear"], "scheme": FP8})
    with pytest.raises(QuantError, match=r"parts of 'double_blocks\.0\.\w+_qkv' have a 'scale_weight' each.*W8A8"):
        quant.export(checkpoint, tmp_path / "out", to="comfyui")


def test_a_layer_is_quantized_as_a_whole(model: Path, tmp_path: Path) -> None:
    checkpoint = converted(model, {"targets": ["Linear"], "scheme": "W8A8"}, ignore=("re:.*\\.attn\\.to_k",))
    with pytest.raises(
        QuantError, match=r"to_q\.weight' and .*become one layer, 'double_blocks\.0.*W8A8.*not at all|n"
    ):
        quant.export(checkpoint, tmp_path / "out", to="comfyui")
