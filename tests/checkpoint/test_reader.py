"""Reading a component: headers, tensors, and every way in which files are missing, damaged or hostile."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.manifest import FILE_NAME, write_manifest
from quant.checkpoint.reader import component_folders, read_config, read_tensors, stored_tensors, verify
from quant.errors import CheckpointError
from tests.checkpoint.tiny import LAYERS, write_tiny

SCHEMES = dict.fromkeys(LAYERS, "W8A8")
INDEX = "diffusion_pytorch_model.safetensors.index.json"


@pytest.fixture
def component(tmp_path: Path) -> Path:
    """`checkpoint/transformer`, in several shards, with a manifest in `checkpoint`."""
    folder = tmp_path / "checkpoint" / "transformer"
    write_tiny(folder, SCHEMES, max_bytes=2000)
    write_manifest(folder.parent, {}, {})
    return folder


def edit_index(component: Path, **changes: Any) -> dict[str, str]:
    """Writes other entries into `weight_map` and returns it as it was."""
    body = json.loads((component / INDEX).read_text(encoding="utf-8"))
    old = dict(body["weight_map"])
    body["weight_map"].update(changes)
    (component / INDEX).write_text(json.dumps(body), encoding="utf-8")
    return old


def error_of(component: Path) -> str:
    with pytest.raises(CheckpointError) as error:
        list(read_tensors(stored_tensors(component)))
    return str(error.value)


@pytest.mark.parametrize("max_bytes", [2000, 10**9], ids=["shards", "one file"])
def test_tensors_come_back_as_they_were_written(tmp_path: Path, max_bytes: int) -> None:
    written = write_tiny(tmp_path, SCHEMES, max_bytes=max_bytes)
    stored = stored_tensors(tmp_path)
    assert stored.keys() == written.keys()
    weight = stored["blocks.0.0.weight"]
    assert (weight.dtype, weight.shape, weight.file.parent) == ("I8", (40, 24), tmp_path)
    assert stored["blocks.0.0.weight_scale"].dtype == "F32"
    read = dict(read_tensors(stored))
    assert read.keys() == written.keys()
    assert all(read[name].dtype == t.dtype and torch.equal(read[name], t) for name, t in written.items())


def test_a_part_of_the_tensors_can_be_read(component: Path) -> None:
    stored = stored_tensors(component)
    chosen = {name: stored[name] for name in ("proj_out.weight", "blocks.0.0.bias")}
    assert dict(read_tensors(chosen)).keys() == chosen.keys()


def test_a_truncated_shard_is_named(component: Path) -> None:
    path = sorted(component.glob("*.safetensors"))[1]
    data = path.read_bytes()
    for size in (0, 4, 8, 100, len(data) - 1):
        path.write_bytes(data[:size])
        assert error_of(component).startswith(f"{path}: truncated or damaged: ")


@pytest.mark.parametrize("head", [b"\xff" * 8, b"\0" * 8, (10**12).to_bytes(8, "little"), b"PK\x03\x04" * 2])
def test_a_damaged_header_is_named(component: Path, head: bytes) -> None:
    path = sorted(component.glob("*.safetensors"))[0]
    path.write_bytes(head + path.read_bytes()[8:])
    assert error_of(component).startswith(f"{path}: truncated or damaged: ")


def test_nothing_is_unpickled(component: Path) -> None:
    path = sorted(component.glob("*.safetensors"))[0]
    path.write_bytes(pickle.dumps({"weight": 1}))
    assert error_of(component).startswith(f"{path}: truncated or damaged: ")


def test_a_missing_shard_is_named(component: Path) -> None:
    path = sorted(component.glob("*.safetensors"))[-1]
    path.unlink()
    assert error_of(component) == f"{path}: missing; the checkpoint is incomplete"


@pytest.mark.parametrize("file", ["../x.safetensors", "sub/x.safetensors", "/etc/passwd", 5, None, ["x"], {}])
def test_an_index_names_files_of_its_own_folder(component: Path, file: object) -> None:
    (component.parent / "x.safetensors").write_bytes(sorted(component.glob("*.safetensors"))[0].read_bytes())
    edit_index(component, **{"proj_out.weight": file})
    assert error_of(component) == f"{component / INDEX}: damaged: weight_map must name files of its own folder"


@pytest.mark.parametrize("file", ["", ".", "..", "a\0b", "sub"])
def test_an_index_that_names_no_file(component: Path, file: str) -> None:
    (component / "sub").mkdir()
    edit_index(component, **{"proj_out.weight": file})
    assert error_of(component).startswith(str(component))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": []}', '{"weight_map": null}'])
def test_a_damaged_index_is_named(component: Path, text: str) -> None:
    (component / INDEX).write_text(text, encoding="utf-8")
    assert error_of(component).startswith(f"{component / INDEX}: damaged: ")


def test_an_index_that_disagrees_with_the_shards(component: Path) -> None:
    first, second = sorted(path.name for path in component.glob("*.safetensors"))[:2]
    old = edit_index(component, invented=first)
    assert error_of(component) == f"{component / INDEX}: lists tensor 'invented', which its file does not hold"
    moved = next(name for name, file in old.items() if file == first)
    edit_index(component, invented=first, **{moved: second})
    assert error_of(component).startswith(f"{component / first}: holds tensor '{moved}', which ")


def test_a_tensor_in_two_shards_is_refused(component: Path) -> None:
    """Which of the two is read would depend on the order of the files."""
    first, second = sorted(component.glob("*.safetensors"))[:2]
    stored = stored_tensors(component)
    one = next(name for name, tensor in stored.items() if tensor.file == first)
    both = {**dict(read_tensors({n: t for n, t in stored.items() if t.file == second})), one: torch.zeros(1)}
    save_file(both, second)
    assert error_of(component).startswith(f"{second}: holds tensor '{one}', which ")


@pytest.mark.parametrize("count", [0, 2])
def test_without_an_index_there_is_one_file(tmp_path: Path, count: int) -> None:
    for i in range(count):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{i}.safetensors")
    assert error_of(tmp_path) == f"{tmp_path}: {count} .safetensors files and no index; expected one"


def test_components_of_a_pipeline_and_of_a_lone_component(component: Path) -> None:
    vae = component.parent / "vae"
    vae.mkdir()
    (vae / "config.json").write_text("{}", encoding="utf-8")
    assert component_folders(component.parent) == {"transformer": component}
    assert component_folders(component) == {"": component}
    write_tiny(component.parent / "transformer_2", SCHEMES)
    assert list(component_folders(component.parent)) == ["transformer", "transformer_2"]
    with pytest.raises(CheckpointError, match=r"vae: holds no quantized component"):
        component_folders(vae)
    with pytest.raises(CheckpointError, match=r"nowhere: no such checkpoint folder$"):
        component_folders(component / "nowhere")


@pytest.mark.parametrize(
    ("quantization", "says"),
    [
        (None, "has no 'quantization_config'; the component is not quantized"),
        ({"quant_method": "bitsandbytes"}, "quant_method is 'bitsandbytes'; this library reads "),
        ({"quant_method": "quant", "format_version": 2}, "format_version is 2; this release reads 1"),
        ({"quant_method": "quant"}, "format_version is None; this release reads 1"),
    ],
)
def test_a_config_of_another_kind_is_refused(component: Path, quantization: object, says: str) -> None:
    assert read_config(component)["_class_name"] == "Tiny"
    path = component / "config.json"
    path.write_text(json.dumps({CONFIG_KEY: quantization}), encoding="utf-8")
    with pytest.raises(CheckpointError) as error:
        read_config(component)
    assert str(error.value).startswith(f"{path}: {says}")


def test_verify_finds_the_manifest_in_the_folder_or_its_parent(component: Path) -> None:
    whole, part = verify(component.parent), verify(component)
    assert whole is not None
    assert part is not None
    assert (part.root, part.body) == (whole.root, whole.body)
    assert (whole.component, part.component) == ("", component.name)
    (component / "config.json").write_text("{}", encoding="utf-8")
    for folder in (component, component.parent):
        with pytest.raises(CheckpointError, match=r"transformer/config\.json: has 2 bytes, the manifest says"):
            verify(folder)


def test_verify_leaves_alone_what_no_manifest_speaks_of(component: Path) -> None:
    other = component.parent / "saved_elsewhere"
    write_tiny(other, SCHEMES)
    assert verify(other) is None
    (component.parent / FILE_NAME).unlink()
    assert verify(component) is None
    assert verify(component.parent) is None
