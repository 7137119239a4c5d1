"""What is no diffusers folder is called what it is, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from quant.files.model_paths import about_config, no_folder


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wan_fp8.safetensors", ".from_single_file('{path}').save_pretrained(DIR) makes one"),
        ("wan.CKPT", ".from_single_file('{path}').save_pretrained(DIR) makes one"),
        ("wan-Q8_0.gguf", "is a GGUF file, which is quantized already and not read here"),
        ("notes.txt", "is a file; quant takes folders as diffusers saves them"),
        ("model_index.json", "is a file; give the folder it lies in, {folder}"),
    ],
)
def test_a_file_is_called_a_file(tmp_path: Path, name: str, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    assert says.format(path=path, folder=tmp_path) in (no_folder(path) or "")


def test_weights_in_a_component_lead_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "x.safetensors").write_bytes(b"")
    assert no_folder(tmp_path / "x.safetensors") == f"is a file; give the folder it lies in, {tmp_path}"


def test_folders_and_nothing_are_no_files(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", tmp_path / ("n" * 5000), Path("a\0b")):
        assert no_folder(path) is None


def test_a_config_of_transformers() -> None:
    for config in ({"architectures": ["UMT5EncoderModel"]}, {"model_type": "UMT5EncoderModel", "architectures": []}):
        assert "is a transformers model, 'UMT5EncoderModel'" in (about_config(config) or "")
    assert about_config({"_class_name": "Wan", "model_type": "t2v"}) is None
    assert about_config({}) is None
