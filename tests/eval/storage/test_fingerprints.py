"""What a model folder's fingerprint depends on, and what is read for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from quant.errors import QuantError
from quant.eval.storage import fingerprints
from quant.eval.storage.fingerprints import DIGITS, fingerprint, read_model


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with weights of 5 MiB, and a cache of its own."""
    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    (folder / "transformer").mkdir(parents=True)
    (folder / "transformer" / "a.safetensors").write_bytes(bytes(5 << 20))
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read."""
    names: list[str] = []
    blocks = fingerprints._blocks

    def noted(path: Path) -> Iterator[bytes]:
        names.append(path.name)
        yield from blocks(path)

    monkeypatch.setattr(fingerprints, "_blocks", noted)
    return names


def test_any_byte_any_name_and_any_new_file_counts_and_cards_do_not(model: Path) -> None:
    before, weights = fingerprint(model), model / "transformer" / "a.safetensors"
    assert len(before) == DIGITS
    old = weights.stat()
    for place in (0, 2 << 20, (5 << 20) - 1):
        with weights.open("r+b") as file:
            file.seek(place)
            file.write(b"x")
        os.utime(weights, ns=(old.st_atime_ns, old.st_mtime_ns))  # as a program that restores times does
        assert fingerprint(model) != before
        with weights.open("r+b") as file:
            file.seek(place)
            file.write(b"\0")
        assert fingerprint(model) == before
    for name in ("README.md", "quant_manifest.json", ".lock"):
        (model / name).write_text("x")
    assert fingerprint(model) == before
    weights.rename(model / "transformer" / "b.safetensors")
    assert fingerprint(model) != before
    (model / "transformer" / "b.safetensors").rename(weights)
    (model / "more").write_text("")
    assert fingerprint(model) != before


def test_weights_behind_a_link_to_a_folder_count(model: Path, tmp_path: Path) -> None:
    (model / "transformer").rename(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.safetensors").write_bytes(bytes(5 << 20)[:-1] + b"x")
    found = []
    for name in ("a", "b"):
        (model / "transformer").unlink(missing_ok=True)
        (model / "transformer").symlink_to(tmp_path / name)
        found.append(fingerprint(model))
    assert found[0] != found[1]
    assert set(fingerprints.states(model)) == {"model_index.json", "transformer/a.safetensors"}
    (tmp_path / "b" / "up").symlink_to(model)
    with pytest.raises(QuantError, match=r"up: is a link to .*model, which it lies in"):
        fingerprint(model)


def test_what_was_read_is_not_read_again_until_it_changes(
    model: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "SETTLED", 0)  # files of any age are kept
    first = fingerprint(model)
    assert sorted(read) == ["a.safetensors", "model_index.json"]
    with (model.parent / "cache" / "sha256.jsonl").open("a") as cache:
        cache.write('["/x", 1, 2\n[]\n{"a": 1}\n' + "[" * 100_000 + "\n")  # lines of killed and of other programs
    assert fingerprint(model) == first and len(read) == 2
    (model / "model_index.json").write_text("[]")
    fingerprint(model)
    assert read[2:] == ["model_index.json"]
    kept = (model.parent / "cache" / "sha256.jsonl").read_text().splitlines()
    assert len(kept) == 2  # without the line of what the file was before
    (model / "model_index.json").write_text("{ }")
    monkeypatch.setattr(fingerprints, "SETTLED", 10**18)
    fingerprint(model)
    fingerprint(model)  # it changed a moment ago, and could again without a new time
    assert read[3:] == ["model_index.json", "model_index.json"]


def test_a_cache_that_cannot_be_written_is_done_without(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fingerprint(model)
    monkeypatch.setenv("QUANT_CACHE_DIR", str(model / "model_index.json"))  # no folder
    assert fingerprint(model) == first


def test_a_model_that_is_being_written_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = fingerprints._blocks

    def writing(path: Path) -> Iterator[bytes]:
        yield from blocks(path)
        (model / "transformer" / "a.safetensors").write_bytes(b"others")

    monkeypatch.setattr(fingerprints, "_blocks", writing)
    with pytest.raises(QuantError, match="changed while it was read"):
        fingerprint(model)


def test_progress_is_of_large_models_only(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_CACHE_DIR", "/dev/null/none")
    told: list[tuple[str, int, int]] = []
    read_model(model, lambda *given: told.append(given), "original")
    assert told == []
    monkeypatch.setattr(fingerprints, "_LARGE", 4)
    read_model(model, lambda *given: told.append(given), "original")
    assert told[-1] == ("original, MiB read", 5, 5)
