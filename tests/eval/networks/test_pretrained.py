"""What every model that transformers loads has in common here; the models are those of the shapes example."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import transformers
from safetensors.torch import load_file, save_file

from quant.errors import QuantError
from quant.eval.networks.pretrained import load_config, load_model, load_tokenizer, read_preprocessor

NETWORKS = Path(__file__).parents[3] / "examples" / "shapes" / "metric_networks"


def test_another_model_and_none_are_refused(tmp_path: Path) -> None:
    assert load_config(str(NETWORKS / "clip"), "clip").model_type == "clip"
    with pytest.raises(QuantError, match="clip is a clip, not a videomae"):
        load_config(str(NETWORKS / "clip"), "videomae")
    with pytest.raises(QuantError, match=f"^{tmp_path} cannot be loaded: .+"):
        load_config(str(tmp_path), "clip")
    with pytest.raises(QuantError, match=f"^{tmp_path} cannot be loaded: .+"):
        load_tokenizer(str(tmp_path))


def test_a_program_that_a_folder_brings_is_neither_run_nor_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda question: "y")
    marker = tmp_path / "ran"
    (tmp_path / "own.py").write_text(f"open({str(marker)!r}, 'w')\nclass OwnConfig: pass\n")
    (tmp_path / "config.json").write_text('{"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}')
    with pytest.raises(QuantError, match=f"^{tmp_path} cannot be loaded: .+"):
        load_config(str(tmp_path), "clip")
    assert not marker.exists()


def test_weights_that_are_missing_are_refused(tmp_path: Path) -> None:
    """transformers would fill them with random numbers."""
    shutil.copytree(NETWORKS / "videomae", tmp_path, dirs_exist_ok=True)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["fc_norm.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(QuantError, match=r"lacks weights of a VideoMAEForVideoClassification: fc_norm.weight"):
        load_model(transformers.VideoMAEForVideoClassification, str(tmp_path), "cpu")


def test_the_first_preprocessor_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "second.json").write_text('{"size": 4, "crop_size": null}')
    assert read_preprocessor(str(tmp_path), ("first.json", "second.json")) == (
        f"second.json of {tmp_path}",
        {"size": 4},
    )
    (tmp_path / "first.json").write_text('{"rescale_factor": 0.00392156862745098, "do_rescale": true}')
    assert read_preprocessor(str(tmp_path), ("first.json", "second.json"))[0] == f"first.json of {tmp_path}"
    with pytest.raises(QuantError, match=f"{tmp_path} has no third.json: how it wants its pictures is not known"):
        read_preprocessor(str(tmp_path), ("third.json",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON: .*nested too deeply"),
        ("[]", "holds no JSON object"),
        (json.dumps({"do_rescale": False}), "another range"),
        (json.dumps({"rescale_factor": 1 / 127.5}), "another range"),
        (json.dumps({"rescale_factor": "1/255"}), "another range"),
    ],
)
def test_preprocessors_that_cannot_be_used_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(QuantError, match=f"^a.json of {tmp_path} .*{message}"):
        read_preprocessor(str(tmp_path), ("a.json",))
