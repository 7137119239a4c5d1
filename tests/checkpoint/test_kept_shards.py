"""Files of a checkpoint that a killed run had finished."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from quant.checkpoint.kept_shards import NOTE, KeptShards

NAME = "x.safetensors"


def kept(folder: Path, key: str = "run", component: str = "transformer") -> KeptShards:
    """A folder with one finished file."""
    shards = KeptShards(folder, key)
    data = b"tensors of " + component.encode()
    (shards.place(component) / NAME).write_bytes(data)
    shards.keep(component, NAME, hashlib.sha256(data).hexdigest(), {f"{component}.layer": 0.25})
    return shards


def test_another_process_finds_them(tmp_path: Path) -> None:
    kept(tmp_path)
    found = KeptShards(tmp_path, "run")
    assert found.finished("transformer").keys() == {NAME}
    assert found.errors("transformer") == {"transformer.layer": 0.25}
    assert found.finished("other") == {} and found.errors("other") == {}


def test_components_and_a_lone_one_are_told_apart(tmp_path: Path) -> None:
    shards = kept(tmp_path, component="")
    kept_too = KeptShards(tmp_path, "run")
    assert kept_too.errors("") == {".layer": 0.25} and kept_too.errors("transformer") == {}
    assert shards.finished("").keys() == {NAME}


@pytest.mark.parametrize("damage", ["key", "bytes", "note", "entry", "gone"])
def test_what_is_not_as_it_was_is_made_again(tmp_path: Path, damage: str) -> None:
    kept(tmp_path)
    file, note = tmp_path / "transformer" / NAME, tmp_path / NOTE
    if damage == "bytes":
        file.write_bytes(b"Tensors of transformer")
    elif damage == "note":
        note.write_text("{", encoding="utf-8")
    elif damage == "entry":
        body = json.loads(note.read_text("utf-8"))
        body["files"]["transformer/x.safetensors"]["errors"] = {"layer": "0.25"}
        note.write_text(json.dumps(body), encoding="utf-8")
    elif damage == "gone":
        file.unlink()
    found = KeptShards(tmp_path, "another" if damage == "key" else "run")
    assert found.finished("transformer") == {}
    assert not file.exists()


def test_files_and_their_index_are_moved_and_the_note_stays(tmp_path: Path) -> None:
    shards = kept(tmp_path / "written", component="")
    (shards.place("") / "x.safetensors.index.json").write_text("{}", encoding="utf-8")
    (tmp_path / "new").mkdir()
    shards.move("", tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [NAME, "x.safetensors.index.json"]
    assert [path.name for path in (tmp_path / "written").iterdir()] == [NOTE]
