"""Reading a component: headers, tensors, and every way in which files are missing, damaged or hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.manifest import FILE_NAME, write_manifest
from quant.checkpoint.reader import (
    component_folders,
    headers,
    read_config,
    read_rows,
    read_tensor,
    stored_tensors,
    weight_files,
)
from quant.checkpoint.shards import FileTensor, file_header
from quant.checkpoint.verifying import FoundManifest, Verification, find_manifest
from quant.errors import CheckpointError
from tests.attacks.attack import CANARY, PICKLE
from tests.checkpoint.tiny import LAYERS, write_tiny

SCHEMES = dict.fromkeys(LAYERS, "W8A8")
INDEX = "diffusion_pytorch_model.safetensors.index.json"


def verify(folder: Path) -> FoundManifest | None:
    """The manifest of a checkpoint whose files are as it lists them."""
    found = find_manifest(folder)
    Verification(found).finish()
    return found


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
        stored_tensors(component)
    return str(error.value)


@pytest.mark.parametrize("max_bytes", [2000, 10**9], ids=["shards", "one file"])
def test_tensors_come_back_as_they_were_written(tmp_path: Path, max_bytes: int) -> None:
    written = write_tiny(tmp_path, SCHEMES, max_bytes=max_bytes)
    stored = stored_tensors(tmp_path)
    assert stored.keys() == written.keys()
    weight = stored["blocks.0.0.weight"]
    assert (weight.dtype, weight.shape, weight.file.parent) == ("I8", (40, 24), tmp_path)
    assert stored["blocks.0.0.weight_scale"].dtype == "F32"
    read = {name: read_tensor(name, tensor) for name, tensor in stored.items()}
    assert all(read[name].dtype == t.dtype and torch.equal(read[name], t) for name, t in written.items())


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
    path.write_bytes(PICKLE)
    assert error_of(component).startswith(f"{path}: truncated or damaged: ")
    assert not CANARY.exists()


def test_a_file_that_goes_away_while_it_is_opened(component: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(path: Path, framework: str) -> None:
        raise FileNotFoundError(f"No such file or directory: {path}\nfrom safetensors")

    monkeypatch.setattr("quant.checkpoint.reader.safe_open", gone)
    with pytest.raises(CheckpointError, match=r"truncated or damaged: No such file or directory: .*\.safetensors$"):
        stored_tensors(component)


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
    both = {**{n: read_tensor(n, t) for n, t in stored.items() if t.file == second}, one: torch.zeros(1)}
    save_file(both, second)
    assert error_of(component).startswith(f"{second}: holds tensor '{one}', which ")


@pytest.mark.parametrize("count", [0, 2])
def test_without_an_index_there_is_one_file(tmp_path: Path, count: int) -> None:
    for i in range(count):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{i}.safetensors")
    assert error_of(tmp_path) == f"{tmp_path}: {count} .safetensors files and no index; expected one"


NAMED, INDEX_OF_VARIANT = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.safetensors.index.int8.json"


def test_the_file_that_a_loader_takes(tmp_path: Path) -> None:
    """In this order: diffusers' own index, its own file, the only other index, the only other file."""

    def put(name: str) -> None:
        save_file({f"in {name}": torch.zeros(1)}, tmp_path / name)

    def index(name: str, file: str) -> None:
        (tmp_path / name).write_text(json.dumps({"weight_map": {f"in {file}": file}}))

    put("model.safetensors")
    assert list(stored_tensors(tmp_path)) == ["in model.safetensors"]
    put("diffusion_pytorch_model.int8.safetensors")
    with pytest.raises(CheckpointError, match=r"2 \.safetensors files and no index; expected one"):
        stored_tensors(tmp_path)
    index(INDEX_OF_VARIANT, "diffusion_pytorch_model.int8.safetensors")
    assert list(stored_tensors(tmp_path)) == ["in diffusion_pytorch_model.int8.safetensors"]
    put(NAMED)
    assert list(stored_tensors(tmp_path)) == [f"in {NAMED}"]
    put("a.safetensors")
    index(INDEX, "a.safetensors")
    assert list(stored_tensors(tmp_path)) == ["in a.safetensors"]
    assert {path.name for path in weight_files(tmp_path)} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", [NAMED, "diffusion_pytorch_model-00009-of-00009.safetensors", INDEX_OF_VARIANT])
def test_weights_that_the_manifest_does_not_know_are_refused(component: Path, name: str) -> None:
    (component / name).write_bytes(b"of an older checkpoint")
    for folder in (component, component.parent / "transformer" / ".." / "transformer"):
        for look in (verify, find_manifest):
            with pytest.raises(CheckpointError, match=r"is not in .*, so it is of another checkpoint; remove it"):
                look(folder)


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (("transformer/config.json",), "transformer/.*: is not in "),
        ((), "transformer/.*: is not in "),
        (("transformer/diffusion",), "lists no .*transformer/config.json, so nothing vouches for it"),
    ],
)
def test_a_manifest_that_lists_less_is_no_check(component: Path, kept: tuple[str, ...], says: str) -> None:
    path = component.parent / FILE_NAME
    body = json.loads(path.read_text())
    body["files"] = {name: entry for name, entry in body["files"].items() if name.startswith(kept)}
    path.write_text(json.dumps({**body, "layers": {"transformer": []}}))
    for look in (verify, find_manifest):
        with pytest.raises(CheckpointError, match=says):
            look(component)
    for file in component.glob("*safetensors*"):
        file.unlink()
    if "config" in str(kept):
        with pytest.raises(CheckpointError, match=r"lists no weights of .*transformer, so nothing vouches for them"):
            verify(component)


def test_a_link_to_a_component_is_checked_where_it_is_named(component: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    component.rename(elsewhere)
    component.symlink_to(elsewhere)
    found = verify(component)
    assert found is not None and found.root == component.parent


@pytest.mark.parametrize("value", [[], "x", 5, True])
def test_a_quantization_config_of_another_kind_is_one_line(component: Path, value: object) -> None:
    path = component / "config.json"
    path.write_text(json.dumps({CONFIG_KEY: value}))
    for look in (component_folders, read_config):
        with pytest.raises(CheckpointError) as error:
            look(component)
        assert str(error.value) == f"{path}: quantization_config: must be a mapping, got {value!r}"
    with pytest.raises(CheckpointError, match="must be a mapping"):
        component_folders(component.parent)


def test_it_is_said_what_a_folder_is_instead(tmp_path: Path) -> None:
    def error() -> str:
        with pytest.raises(CheckpointError) as found:
            component_folders(tmp_path)
        return str(found.value)

    config = tmp_path / "config.json"
    config.write_text(json.dumps({"architectures": ["T5EncoderModel"], CONFIG_KEY: None}))
    assert error().startswith(f"{tmp_path}: is a transformers model, 'T5EncoderModel'; ")
    config.unlink()
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text(json.dumps({CONFIG_KEY: {"quant_method": "sdnq"}}))
    assert error() == (
        f"{tmp_path}: 'transformer' is quantized by 'sdnq', which quant does not read; load the folder with diffusers' "
        "from_pretrained and that library installed"
    )


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


def test_a_file_may_be_larger_than_memory(tmp_path: Path) -> None:
    """256 GB, of which the disk holds the header and one row."""
    rows = 2**27
    head, places = file_header({"x": FileTensor(torch.bfloat16, (rows, 1024)), "y": FileTensor(torch.int8, (3,))}, {})
    path = tmp_path / "large.safetensors"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(places["y"] + 3)
        file.seek(places["x"] + 2048 * (rows - 1))
        file.write(torch.full((1024,), 1.5, dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes())
    stored = headers([path])
    assert stored["x"].shape == (rows, 1024) and stored["y"].offset == places["y"]
    assert torch.equal(read_rows("x", stored["x"], rows - 1, rows), torch.full((1, 1024), 1.5, dtype=torch.bfloat16))
    assert read_tensor("y", stored["y"]).tolist() == [0, 0, 0]
    with pytest.raises(CheckpointError, match=r"large.safetensors: truncated or damaged: ends within tensor 'y'"):
        read_rows("y", stored["y"], 0, 4)
