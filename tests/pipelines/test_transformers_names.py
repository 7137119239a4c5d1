"""Names in files become those of the class as transformers itself loads them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import quant
from quant.pipelines.transformers_names import held_by_others, names_in_model, written_twice
from tests.tiny_encoders import encoded, encoder

QWEN = "Qwen2_5_VLForConditionalGeneration"


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (QWEN, "model.layers.0.mlp.up_proj", "model.language_model.layers.0.mlp.up_proj"),
        (QWEN, "visual.blocks.0.attn.qkv", "model.visual.blocks.0.attn.qkv"),
        ("CLIPTextModel", "text_model.encoder.layers.0.mlp.fc1", "encoder.layers.0.mlp.fc1"),
        ("LlamaModel", "model.layers.0.mlp.up_proj", "layers.0.mlp.up_proj"),
    ],
)
def test_older_names_and_prefixes(tmp_path: Path, name: str, old: str, new: str) -> None:
    model = encoder(name, tmp_path / "m")
    for leaf in ("weight", "weight_scale"):
        room = {**model.state_dict(), f"{new}.weight_scale": None}
        for name_there in (old, new):
            assert names_in_model(model, [f"{name_there}.{leaf}"], room) == {f"{name_there}.{leaf}": f"{new}.{leaf}"}
    with pytest.raises(quant.QuantError, match=f"'{old}.weight' and '{new}.weight' are both its"):
        names_in_model(model, [f"{old}.weight", f"{new}.weight"], model.state_dict())


def test_files_of_an_older_release_are_converted_by_their_class(tmp_path: Path) -> None:
    model = encoder("CLIPTextModel", tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    tensors = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in load_file(file).items()}
    save_file({**tensors, "text_model.embeddings.position_ids": torch.arange(3)[None]}, file, metadata={"format": "pt"})
    out = quant.convert(tmp_path / "m", tmp_path / "out", scheme="W8A8", progress=False).folder
    loaded, exact = quant.load(out), encoded(model).float()
    assert isinstance(loaded, transformers.CLIPTextModel)
    assert float((encoded(loaded).float() - exact).norm() / exact.norm()) < 0.04


def test_of_tied_tensors_one_is_written(tmp_path: Path) -> None:
    model = encoder("UMT5EncoderModel", tmp_path / "m")
    assert written_twice(model) == {"encoder.embed_tokens.weight"}
    assert held_by_others(model, ["encoder.embed_tokens.weight"]) == {"shared.weight"}
    assert held_by_others(model, ["shared.weight"]) == {"encoder.embed_tokens.weight"}
    assert held_by_others(model, []) == held_by_others(model, model.state_dict()) == set()
    model.encoder.embed_tokens = torch.nn.Embedding(64, 64)
    assert not written_twice(model)
