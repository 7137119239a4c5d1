"""The sizes are those of diffusers' models, and the Linears are those of its blocks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from quant.errors import ModelError
from quant.eval.bench import sizes
from quant.eval.bench.modules import _MODELS
from quant.eval.bench.sizes import Model, layers, models
from quant.families.fusing import block_module


def network(model: Model) -> nn.Module:
    """diffusers' model with one block at full size, without memory."""
    with torch.device("meta"):
        return _MODELS[model.transformer][0](model, True)


@pytest.mark.parametrize("model", models().values(), ids=lambda model: model.name)
def test_the_linears_of_a_block_are_those_of_diffusers(model: Model) -> None:
    block = network(model).get_submodule(f"{model.blocks}.0")
    theirs = {name: tuple(m.weight.shape) for name, m in block.named_modules() if isinstance(m, nn.Linear)}
    assert {each.name: (each.n, each.k) for each in layers(model)} == theirs


@pytest.mark.parametrize("model", models().values(), ids=lambda model: model.name)
def test_a_note_says_where_there_is_no_fused_version(model: Model) -> None:
    if "no fused form" in model.note:
        with pytest.raises(ModelError):
            block_module(network(model))
    else:
        block_module(network(model))


@pytest.mark.parametrize("model", models().values(), ids=lambda model: model.name)
def test_widths_agree(model: Model) -> None:
    assert model.d == model.heads * model.head_dim
    assert model.source
    assert model.about


@pytest.mark.parametrize(
    ("name", "frames", "rows", "columns", "text"),
    [
        # Latent frames are (frames - 1) / 4 + 1, with LTX 8; a token is 16 x 16 pixels, with LTX 32 x 32.
        ("wan-1.3b", (81 - 1) // 4 + 1, 480 // 16, 832 // 16, 512),
        ("wan-14b", (81 - 1) // 4 + 1, 480 // 16, 832 // 16, 512),
        ("hunyuan", (129 - 1) // 4 + 1, 720 // 16, 1280 // 16, 256),
        ("ltx-13b", (121 - 1) // 8 + 1, 704 // 32, 1216 // 32, 128),
    ],
)
def test_tokens_are_those_of_the_clip(name: str, frames: int, rows: int, columns: int, text: int) -> None:
    model = models()[name]
    assert (model.video_tokens, model.text_tokens) == (frames * rows * columns, text)


def test_rows_of_a_batch() -> None:
    model = models()["hunyuan"]
    assert [model.rows(stream, 2) for stream in ("video", "text", "sample")] == [2 * 118_800, 2 * 256, 2]


def test_the_middle_block_stands_for_all() -> None:
    assert models()["wan-14b"].prefix == "blocks.20."
    assert models()["ltx-13b"].prefix == "transformer_blocks.24."


def test_a_file_of_another_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models.json").write_text(json.dumps({"format_version": 2, "models": []}))
    monkeypatch.setattr(sizes, "FILE", tmp_path / "models.json")
    with pytest.raises(ValueError, match="format_version 2 cannot be read, only 1"):
        models.__wrapped__()
