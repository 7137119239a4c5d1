"""`quant_manifest.json`: every file with its size and SHA-256; damage, loss and hostile paths are found."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from quant.checkpoint.manifest import FILE_NAME, read_manifest, sha256_of, verify_digests, verify_sizes, write_manifest
from quant.errors import CheckpointError

FILES = {"config.json": b"{}", "transformer/model.safetensors": bytes(range(256)) * 9, "transformer/empty": b""}


def verify_files(folder: Path, listed: dict[str, Any]) -> None:
    """Compares files with their entries in a manifest."""
    verify_sizes(folder, listed)
    verify_digests(folder, listed)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small checkpoint with its manifest."""
    root = tmp_path / "checkpoint"
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    write_manifest(root, {"recipe": {"name": "tiny"}}, {})
    return root


def manifest_of(folder: Path) -> dict[str, Any]:
    manifest = read_manifest(folder)
    assert manifest is not None
    return manifest


def rewrite(folder: Path, **changes: Any) -> None:
    body = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
    (folder / FILE_NAME).write_text(json.dumps({**body, **changes}), encoding="utf-8")


def test_it_lists_every_file_and_verifies(folder: Path) -> None:
    manifest = manifest_of(folder)
    assert manifest == {
        "format_version": 1,
        "recipe": {"name": "tiny"},
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in FILES.items()
        },
    }
    verify_files(folder, manifest["files"])


def test_sha256_of_a_file_of_several_pieces(tmp_path: Path) -> None:
    data = b"quant" * 500_000
    (tmp_path / "file").write_bytes(data)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_manifest_that_is_there_already_is_not_listed(folder: Path) -> None:
    """One may come along with the files of the model that this one was made from."""
    write_manifest(folder, {"recipe": {"name": "second"}}, {})
    manifest = manifest_of(folder)
    assert manifest["files"].keys() == FILES.keys()
    verify_files(folder, manifest["files"])


def test_what_was_written_must_be_there(folder: Path) -> None:
    right = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    write_manifest(folder, {}, right)
    verify_files(folder, manifest_of(folder)["files"])
    with pytest.raises(CheckpointError, match=r"/lost: was written and is gone"):
        write_manifest(folder, {}, {**right, "lost": "0" * 64})


def test_a_folder_without_one(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(CheckpointError) as error:
        verify_files(folder, manifest_of(folder)["files"])
    assert str(error.value) == f"{folder / name}: missing; the checkpoint is incomplete"


@pytest.mark.parametrize(("name", "size"), [("config.json", 1), ("config.json", 3), ("transformer/empty", 1)])
def test_a_file_of_another_size_is_named(folder: Path, name: str, size: int) -> None:
    (folder / name).write_bytes(b"x" * size)
    with pytest.raises(CheckpointError) as error:
        verify_files(folder, manifest_of(folder)["files"])
    assert str(error.value).startswith(f"{folder / name}: has {size} bytes, the manifest says {len(FILES[name])}")


@pytest.mark.parametrize("position", [0, 1000, 2303])
@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_is_found(folder: Path, position: int, bit: int) -> None:
    path = folder / "transformer" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[position] ^= 1 << bit
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="its SHA-256 differs") as error:
        verify_files(folder, manifest_of(folder)["files"])
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["../secret", "transformer/../../secret", "{absolute}", "..", "transformer/.."])
def test_a_path_outside_the_folder_is_refused(folder: Path, name: str) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(b"secret")
    name = name.replace("{absolute}", str(secret))
    entry = {"bytes": 6, "sha256": hashlib.sha256(b"secret").hexdigest()}
    rewrite(folder, files={name: entry})
    with pytest.raises(CheckpointError) as error:
        verify_files(folder, manifest_of(folder)["files"])
    assert str(error.value) == f"{folder / FILE_NAME}: lists '{name}', which is outside the folder"


def test_a_name_that_no_file_can_have(folder: Path) -> None:
    rewrite(folder, files={"a\0b": {"bytes": 0, "sha256": ""}})
    with pytest.raises(CheckpointError, match="missing; the checkpoint is incomplete"):
        verify_files(folder, manifest_of(folder)["files"])


def test_links_are_followed_as_the_hub_cache_has_them(folder: Path) -> None:
    """There a snapshot is a folder of links to files that lie outside of it."""
    snapshot = folder.parent / "snapshots" / "main"
    for name in [*FILES, FILE_NAME]:
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(folder / name)
    verify_files(snapshot, manifest_of(snapshot)["files"])
    (folder / "config.json").write_bytes(b"[]")
    with pytest.raises(CheckpointError, match=r"main/config\.json: its SHA-256 differs"):
        verify_files(snapshot, manifest_of(snapshot)["files"])


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"{", b"\xff\xfe", b"[]", b"null", b"{}", b"[" * 100_000),
        *(b'{"files": []}', b'{"files": null}', b'{"files": {"a": 3}}', b'{"files": {"a": {}}}'),
        b'{"files": {"a": {"bytes": 1}}}',
    ],
)
def test_a_damaged_manifest_is_named(folder: Path, text: bytes) -> None:
    (folder / FILE_NAME).write_bytes(text)
    with pytest.raises(CheckpointError) as error:
        read_manifest(folder)
    assert str(error.value).startswith(f"{folder / FILE_NAME}: damaged: ")


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused(folder: Path, version: object) -> None:
    rewrite(folder, format_version=version)
    with pytest.raises(CheckpointError) as error:
        read_manifest(folder)
    assert str(error.value) == f"{folder / FILE_NAME}: format_version is {version!r}; this release reads 1"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layers": []}, "layers must be lists of records by component, got []"),
        ({"layers": None}, "layers must be lists of records by component, got None"),
        ({"layers": {"transformer": {}}}, "layers.transformer must be a list of records, got {}"),
        ({"layers": {"": [5]}}, "layers.[0] must be a record with a name, got 5"),
        ({"layers": {"": [{}]}}, "layers.[0] must be a record with a name, got {}"),
        ({"layers": {"": [{"name": 3}]}}, "layers.[0] must be a record with a name, got {'name': 3}"),
        ({"layers": {"": [{"name": "a", "reason": None}]}}, "layers.[0].reason must be text, got None"),
        ({"layers": {"": [{"name": "a", "alpha": "x"}]}}, "layers.[0].alpha must be a number, got 'x'"),
        ({"layers": {"": [{"name": "a", "weight_error": True}]}}, "layers.[0].weight_error must be a number, got True"),
        ({"recipe": "w8a8"}, "recipe must be a mapping, got 'w8a8'"),
        ({"recipe": {"name": 5}}, "recipe has a name and a sha256 of text, got {'name': 5}"),
        ({"versions": []}, "versions must be a mapping, got []"),
        ({"calibration": [1]}, "calibration must be a mapping, got [1]"),
        ({"calibration": {"seed": 1}}, "calibration has settings, prompts and a seed"),
    ],
)
def test_what_is_read_of_a_manifest_is_of_its_kind(folder: Path, changes: dict[str, Any], says: str) -> None:
    rewrite(folder, layers={"": [{"name": "a", "weight_error": 0.1, "alpha": None, "reason": ""}]}, calibration=None)
    assert read_manifest(folder) is not None
    rewrite(folder, **changes)
    with pytest.raises(CheckpointError) as error:
        read_manifest(folder)
    assert str(error.value) == f"{folder / FILE_NAME}: damaged: {says}"
