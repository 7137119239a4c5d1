"""transformers models: tables stay tables, tied weights are written once, and blocks are those of the class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn

import quant
from quant.errors import ModelError
from quant.pipelines.inputs.table import open_files

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "UMT5EncoderModel": {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 16, "vocab_size": 50},
    "T5EncoderModel": {"d_model": 32, "d_ff": 64, "num_layers": 2, "num_heads": 2, "d_kv": 16, "vocab_size": 50},
    "Qwen2ForCausalLM": {**SMALL, "num_key_value_heads": 1, "vocab_size": 50, "tie_word_embeddings": True},
    "CLIPTextModel": {**SMALL, "vocab_size": 50},
    "GPT2LMHeadModel": {"n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 50, "n_positions": 16},
}


def saved(name: str, folder: Path) -> Any:
    torch.manual_seed(0)
    cls = getattr(transformers, name)
    model = cls(cls.config_class(**MODELS[name])).bfloat16()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_tensors_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    model = saved(name, tmp_path)
    found = open_files(tmp_path)
    assert type(found.model).__name__ == name
    assert found.config["architectures"] == [name]
    (file,) = tmp_path.glob("*.safetensors")
    plans = found.tensors(torch.bfloat16)
    assert plans.keys() == load_file(file).keys()
    for key, plan in plans.items():
        assert torch.equal(plan.whole(), model.state_dict()[key])
        assert plan.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "quantized"),
    [("UMT5EncoderModel", 14), ("T5EncoderModel", 12), ("Qwen2ForCausalLM", 14), ("CLIPTextModel", 12)],
)
def test_linears_of_the_blocks_are_quantized(tmp_path: Path, name: str, quantized: int) -> None:
    model = saved(name, tmp_path / "model")
    made = quant.convert(tmp_path / "model", tmp_path / "out", scheme="FP8_DYNAMIC", progress=False)
    layers = {each["name"]: each for each in made.layers[""] if each["scheme"] is not None}
    linears = {key for key, module in model.named_modules() if isinstance(module, nn.Linear)}
    assert layers.keys() <= linears
    assert len(layers) == quantized
    (file,) = (tmp_path / "out").glob("*.safetensors")
    stored = load_file(file)
    assert not [key for key in stored if "lm_head" in key]  # it is the table, which is there
    tables = [key for key, module in model.named_modules() if isinstance(module, nn.Embedding)]
    assert all(stored[f"{key}.weight"].dtype == torch.bfloat16 for key in tables if f"{key}.weight" in stored)


def test_weights_that_lie_the_other_way_are_no_linears(tmp_path: Path) -> None:
    saved("GPT2LMHeadModel", tmp_path / "model")
    with pytest.raises(quant.QuantError):
        quant.convert(tmp_path / "model", tmp_path / "out", scheme="FP8_DYNAMIC", progress=False)


def test_other_names_than_the_class_has_are_read_by_names_and_shapes_with_a_warning(tmp_path: Path) -> None:
    model = saved("Qwen2ForCausalLM", tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    save_file({f"old.{key}": tensor for key, tensor in load_file(file).items()}, file)
    with pytest.warns(UserWarning, match=r"is read by its names and shapes, for Qwen2ForCausalLM names '.*' otherwise"):
        found = open_files(tmp_path)
    key = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(found.tensors(torch.bfloat16)[f"old.{key}"].whole(), model.state_dict()[key])


@pytest.mark.parametrize("architectures", [["NoSuchModel"], ["AutoModel"], "UMT5EncoderModel", [], [5], None])
def test_classes_that_transformers_has_not_are_read_by_names_and_shapes(tmp_path: Path, architectures: object) -> None:
    saved("UMT5EncoderModel", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": architectures}))
    assert type(open_files(tmp_path).model).__name__ == "BareModel"


def test_values_that_a_class_does_not_take_are_named(tmp_path: Path) -> None:
    saved("UMT5EncoderModel", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for changes in ({"num_layers": 10**5}, {"d_model": "x"}, {"num_heads": None}):
        (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
        with pytest.raises(ModelError, match=r"config\.json: "):
            open_files(tmp_path)
