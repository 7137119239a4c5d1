from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from datasets import Dataset, Video

from quant.errors import QuantError
from quant.eval.inputs.clips import Clip, read_clips

DATA = [b"one", b"two", b"three"]
IDS = [Clip("", data).id for data in DATA]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three "videos" in a folder, which is not itself read; what is in a clip is no matter here."""
    (tmp_path / "clips").mkdir()
    for number, data in enumerate(DATA):
        (tmp_path / "clips" / f"{number}.mp4").write_bytes(data)
    return tmp_path


def write(folder: Path, kind: str) -> Path:
    paths = [f"clips/{number}.mp4" for number in range(3)]
    path = folder / f"real.{kind.rpartition(' ')[2]}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps({"video": video, "caption": "x"}) + "\n" for video in paths))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["path"], *([video] for video in paths)])
    elif kind == "bytes.parquet":
        Dataset.from_dict({"video": DATA}).to_parquet(path)
    elif kind == "structs.parquet":
        Dataset.from_dict({"video": [{"bytes": data, "path": None} for data in DATA]}).to_parquet(path)
    else:
        Dataset.from_dict({"video": paths}).cast_column("video", Video(decode=False)).to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "bytes.parquet", "structs.parquet", "features.parquet"])
def test_every_kind_of_data_set_gives_the_same_clips(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    path = write(folder, kind)
    monkeypatch.chdir("/")  # relative paths start from the file
    assert [clip.id for clip in read_clips(str(path))] == IDS
    assert [clip.id for clip in read_clips(str(path), 2)] == IDS[:2]
    with pytest.raises(QuantError, match="3 clips, 4 were asked for"):
        list(read_clips(str(path), 4))


def test_the_files_of_a_folder_are_read_by_name(folder: Path) -> None:
    for name in ("a/c.MKV", ".hidden.mp4", "notes.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"other")
    found = list(read_clips(str(folder)))
    assert [clip.name for clip in found] == [
        str(folder / name) for name in ("a/c.MKV", "clips/0.mp4", "clips/1.mp4", "clips/2.mp4")
    ]
    assert [clip.id for clip in found[1:]] == IDS


def test_a_folder_of_parquet_files_is_a_data_set(tmp_path: Path) -> None:
    Dataset.from_dict({"video": DATA}).to_parquet(tmp_path / "train.parquet")
    assert [clip.data for clip in read_clips(str(tmp_path))] == DATA


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"clip": "a.mp4"}', "no column named video or path; it has clip"),
        ('{"video": "none.mp4"}', r"real\.jsonl, row 1: .*none\.mp4 cannot be read"),
        ('{"video": null, "n": 1}', r"row 1: 'video' is empty"),
        ("", "no clips in it"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "real.jsonl").write_text(text)
    with pytest.raises(QuantError, match=message):
        list(read_clips(str(tmp_path / "real.jsonl")))


def test_a_place_without_clips_is_named(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match="no such file or folder of clips"):
        list(read_clips(str(tmp_path / "none")))
    with pytest.raises(QuantError, match=f"{tmp_path}: clips cannot be read"):
        list(read_clips(str(tmp_path)))
