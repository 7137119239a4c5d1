"""`quant.export`: what is refused, and what is there when it ends before its time."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import quant
from quant.errors import QuantError
from quant.exporting.comfyui import ComfyUI
from quant.exporting.contents import Contents
from tests.exporting.meaning import converted


@pytest.fixture
def checkpoint(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(converted(model_folder, "W8A8"), tmp_path / "checkpoint"))


def test_every_file_is_in_the_manifest(checkpoint: Path, tmp_path: Path) -> None:
    made = quant.export(checkpoint / "transformer", tmp_path / "out", to="comfyui")
    manifest = json.loads((made.folder / "quant_manifest.json").read_text())
    assert manifest["exported"] == {"to": "comfyui", "from": "checkpoint/transformer"}
    assert {*manifest["files"]} == {*made.files} == {"out.safetensors"}
    first = (made.folder / "out.safetensors").read_bytes()
    with pytest.raises(QuantError, match=r"out: already exists; .*--force"):
        quant.export(checkpoint, made.folder, to="comfyui")
    quant.export(checkpoint, made.folder, to="comfyui", force=True)
    assert (made.folder / "out.safetensors").read_bytes() == first


def test_a_damaged_checkpoint_makes_nothing(checkpoint: Path, tmp_path: Path) -> None:
    file = checkpoint / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(QuantError, match=r"diffusion_pytorch_model\.safetensors: its SHA-256 differs"):
        quant.export(checkpoint, tmp_path / "out", to="comfyui")
    assert not (tmp_path / "out").exists()


def test_an_interrupt_leaves_what_was_there(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: ComfyUI, contents: Contents, work: Path, name: str, max_bytes: int) -> dict[str, str]:
        (work / "half").write_text("")
        raise KeyboardInterrupt

    quant.export(checkpoint, tmp_path / "out", to="comfyui")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(ComfyUI, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        quant.export(checkpoint, tmp_path / "out", to="comfyui", force=True)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert {path.name for path in tmp_path.iterdir()} <= {"checkpoint", "out", ".out.lock"}


def test_smoothed_layers_are_refused_wherever_they_go(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    for to in ("comfyui", "compressed-tensors"):
        with pytest.raises(QuantError, match=r"layer 'blocks\.0\.\S+' is smoothed: .*quant convert --scheme W8A8"):
            quant.export(checkpoints["w8a8"], tmp_path / "out", to=to)


def test_wrong_folders_and_names(checkpoint: Path, model_folder: Path, tmp_path: Path) -> None:
    for folder, to, component, message in (
        (checkpoint, "onyx", None, r"to: unknown 'onyx'; known: comfyui, modelopt, compressed-tensors, gguf"),
        (tmp_path / "no", "gguf", None, r"no: no such checkpoint folder"),
        (model_folder, "gguf", None, r"model: holds no quantized component"),
        (model_folder / "transformer", "gguf", None, r"transformer: no layer of it is quantized .*quant convert"),
        (checkpoint, "comfyui", "vae", r"holds no quantized component 'vae'"),
    ):
        with pytest.raises(QuantError, match=message):
            quant.export(folder, tmp_path / "out", to=to, component=component)
    file = checkpoint / "transformer" / "diffusion_pytorch_model.safetensors"
    with pytest.raises(QuantError, match="is one file, which has no component 'transformer'"):
        quant.export(file, tmp_path / "out", to="gguf", component="transformer")
    with pytest.raises(QuantError, match="checkpoint"):
        quant.export(checkpoint, checkpoint / "inside", to="comfyui")
    shutil.copytree(checkpoint / "transformer", checkpoint / "transformer_2")
    (checkpoint / "quant_manifest.json").unlink()
    with pytest.raises(QuantError, match=r"holds transformer, transformer_2, .*--component"):
        quant.export(checkpoint, tmp_path / "out", to="comfyui")
    assert quant.export(checkpoint, tmp_path / "out", to="comfyui", component="transformer_2").layers == 20
