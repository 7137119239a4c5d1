"""Output is kept apart from what it is made from, by whatever path either is named; and a file is written whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quant.errors import CheckpointError, QuantError
from quant.files.places import check_apart, file_to_write, is_file, is_plain_name, real_place


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models" / "wan"
    (folder / "vae").mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("models/wan", "is the original"),
        ("models/wan/", "is the original"),
        ("models/wan/../wan", "is the original"),
        ("models/wan/vae", "lies in the original"),
        ("models/wan/vae/deep/new", "lies in the original"),
        ("models/wan/int4", "lies in the original"),
        ("models/../models/wan/int4", "lies in the original"),
        ("link", "is the original"),
        ("link/int4", "lies in the original"),
        ("models", "holds the original"),
        (".", "holds the original"),
        ("link-to-models", "holds the original"),
        ("/", "holds the original"),
    ],
)
def test_the_original_is_never_written_to(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, says: str
) -> None:
    (tmp_path / "link").symlink_to(model)
    (tmp_path / "link-to-models").symlink_to(model.parent)
    monkeypatch.chdir(tmp_path)
    for source in (model, Path("models/wan"), tmp_path / "link"):
        for given in (Path(out), tmp_path / out):
            with pytest.raises(CheckpointError, match=says):
                check_apart(given, [source], CheckpointError)


def test_a_component_that_a_link_leads_to_is_the_original_too(model: Path, tmp_path: Path) -> None:
    big = tmp_path / "big" / "transformer"
    big.mkdir(parents=True)
    (model / "transformer").symlink_to(big)
    for out in (big, big / "int4", tmp_path / "big"):
        with pytest.raises(QuantError, match="the original"):
            check_apart(out, [model, model / "transformer"])


@pytest.mark.parametrize("out", ["models/wan-int4", "models/wanted", "out", "models/wa", "a/b/c"])
def test_a_neighbour_is_apart(model: Path, tmp_path: Path, out: str) -> None:
    (tmp_path / "out").mkdir()
    check_apart(tmp_path / out, [model, model / "vae", tmp_path / "nowhere"])


def test_the_real_place_keeps_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert real_place(tmp_path / "link" / "out") == tmp_path / "real" / "out"
    assert real_place(tmp_path / "link") == tmp_path / "link"
    assert real_place(tmp_path / "real" / "..") == tmp_path


def test_plain_names() -> None:
    assert all(is_plain_name(name) for name in ("transformer", "transformer_2", "text-encoder", "vae.v2", "видео"))
    odd = ("", ".", "..", ".hidden", "a/b", "/abs", "a\\b", "C:", "a\0b", "a\nb", "../up", 3, None)
    assert not any(is_plain_name(name) for name in odd)


def test_a_file_is_whole_or_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "found.json"
    out.write_text("old")
    with file_to_write(out) as write:
        assert out.read_text() == "old"
        with pytest.raises(QuantError, match="another process is writing it"), file_to_write(out):
            pass
        write("new")
    assert out.read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]


def test_text_that_no_file_holds_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    with (
        pytest.raises(QuantError, match=r"cannot be written: .*surrogates"),
        file_to_write(tmp_path / "a.svg") as write,
    ):
        write("\udcff")
    assert list(tmp_path.iterdir()) == []


def test_a_link_stays_one_and_what_it_leads_to_is_written(tmp_path: Path) -> None:
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    link.symlink_to(real)
    with file_to_write(link) as write:
        write("new")
    assert link.is_symlink() and real.read_text() == "new"


def test_a_place_that_holds_no_file_is_said_before_the_work(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    places = {"no/x": "no such folder", ".": "is no file", "pipe": "is no file", "0" * 254: "File name too long"}
    for out, says in places.items():
        with pytest.raises(QuantError, match=says), file_to_write(tmp_path / out):
            raise AssertionError("worked")


def test_every_path_has_an_answer(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    assert is_file(tmp_path / "file") and not is_file(tmp_path)
    below = tmp_path / "file" / "below"
    for path in (tmp_path / "pipe", Path("/dev/null"), below, Path("n" * 5000), Path("a\0b"), Path("a\udc80b"), Path()):
        assert not is_file(path)
