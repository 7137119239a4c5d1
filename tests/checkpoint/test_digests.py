"""A file of tensors knows the header and the config it was written with, and files of other writers need not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from quant.checkpoint.digests import METADATA, check_config, check_header
from quant.checkpoint.reader import headers
from quant.checkpoint.streaming import write_shards
from quant.checkpoint.writing import write_component
from quant.errors import CheckpointError
from tests.checkpoint.tiny import parts

CONFIG = {"_class_name": "Tiny", "heads": 8, "eps": 1e-6, "nested": {"a": [1, None]}}
QUANTIZATION = {"quant_method": "quant", "smoothed": ["a"]}
TENSORS = {"a": torch.zeros(2, 4), "b": torch.ones(2, 4), "c": torch.ones(2, dtype=torch.bfloat16)}


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digests")
    write_component(folder, CONFIG, QUANTIZATION, parts(TENSORS), max_bytes=30)
    assert len(files(folder)) == 3
    return folder


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def edited(folder: Path, **changes: Any) -> None:
    (folder / "config.json").write_text(json.dumps({**CONFIG, "quantization_config": QUANTIZATION, **changes}))


def test_a_config_means_what_it_meant(component: Path) -> None:
    check_config(component, files(component))
    fused = {**QUANTIZATION, "fused": True}
    edited(component, _name_or_path="elsewhere", _diffusers_version="9", quantization_config=fused)
    check_config(component, files(component))
    for changes in ({"heads": 4}, {"more": 1}, {"quantization_config": {**QUANTIZATION, "smoothed": []}}):
        edited(component, **changes)
        with pytest.raises(
            CheckpointError,
            match=r"config\.json: was changed after diffusion_pytorch_model-00001-of-00003\.safetensors",
        ):
            check_config(component, files(component))


@settings(max_examples=25)
@given(st.dictionaries(st.sampled_from([*CONFIG, "new"]), st.none() | st.integers(0, 9) | st.floats() | st.text()))
def test_only_the_same_config_is_accepted(component: Path, changes: dict[str, Any]) -> None:
    edited(component, **changes)
    read = json.loads((component / "config.json").read_text())
    written = {**CONFIG, "quantization_config": QUANTIZATION}
    if json.dumps(read, sort_keys=True) == json.dumps(written, sort_keys=True):
        check_config(component, files(component))
    else:
        with pytest.raises(CheckpointError, match="was changed after"):
            check_config(component, files(component))


def rewrite(path: Path, change: Any) -> None:
    """Changes a header in place, padded as before."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def swap(header: dict[str, Any]) -> None:
    header["a"], header["b"] = header["b"], header["a"]


@pytest.mark.parametrize(
    "change",
    [
        swap,
        lambda header: header["c"].update(dtype="F16"),
        lambda header: header["a"].update(shape=[4, 2]),
        lambda header: header.update(d=header.pop("a")),
        lambda header: header[METADATA].update(format="other"),
    ],
)
def test_a_sound_header_of_another_model_is_refused(tmp_path: Path, change: Any) -> None:
    write_shards(tmp_path, parts(TENSORS))
    (path,) = files(tmp_path)
    rewrite(path, lambda header: None)  # written anew, it is the same header
    assert headers([path]).keys() == TENSORS.keys()
    rewrite(path, change)
    with pytest.raises(CheckpointError, match="its header is not the one it was written with") as error:
        headers([path])
    assert str(error.value).startswith(f"{path}: truncated or damaged: ")


def test_files_of_other_writers_say_nothing_and_are_read(tmp_path: Path) -> None:
    write_shards(tmp_path, parts(TENSORS))
    (path,) = files(tmp_path)
    save_file(load_file(path), path)
    edited(tmp_path)
    assert headers([path]).keys() == TENSORS.keys()
    check_config(tmp_path, [path])


@pytest.mark.parametrize("value", [None, {}])
def test_metadata_may_be_nothing(tmp_path: Path, value: object) -> None:
    write_shards(tmp_path, parts(TENSORS))
    (path,) = files(tmp_path)
    rewrite(path, lambda header: header.update({METADATA: value}))
    edited(tmp_path)
    assert headers([path]).keys() == TENSORS.keys()
    check_config(tmp_path, [path])


@pytest.mark.parametrize("value", [["quant_header_sha256"], [], "x", {"format": 1}, {"quant_header_sha256": None}])
def test_metadata_of_another_kind_is_damage(tmp_path: Path, value: object) -> None:
    write_shards(tmp_path, parts(TENSORS))
    (path,) = files(tmp_path)
    rewrite(path, lambda header: header.update({METADATA: value}))
    for read in (check_header, lambda path: check_config(tmp_path, [path])):
        edited(tmp_path)
        with pytest.raises(CheckpointError, match=rf"^{path}: .* its __metadata__ must map to texts, got "):
            read(path)
