"""The one reader of JSON files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from quant.errors import CheckpointError, ModelError
from quant.files.json_files import json_rows, parse_object, read_object, text_of


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[]", b"3", b"null", b"[" * 100_000, b'{"a":' * 100_000])
def test_a_damaged_file_is_named(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(ModelError) as error:
        read_object(path, ModelError)
    assert str(error.value).startswith(f"{path}: damaged: ")


def test_a_missing_file_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no\.json: missing; is this a checkpoint folder\?$"):
        read_object(tmp_path / "no.json")
    with pytest.raises(CheckpointError, match=r"damaged: .*Is a directory"):
        read_object(tmp_path)


def test_an_object_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1, "é"]}', encoding="utf-8")
    assert read_object(path) == {"a": [1, "é"]}
    assert parse_object('{"b": 2}', "header") == {"b": 2}


def test_what_is_written_is_json_and_not_only_pythons(tmp_path: Path) -> None:
    body = {"layers": {"transformer": [{"name": "blocks.0", "error": 0.5}, {"name": "blocks.1", "error": math.nan}]}}
    with pytest.raises(CheckpointError) as error:
        text_of(body, "m.json", indent=1)
    assert str(error.value) == "m.json: layers.transformer[blocks.1].error is not finite, which JSON cannot hold"
    with pytest.raises(ModelError, match=r"^m.json: a\[1\] is not finite"):
        text_of({"a": (1.0, -math.inf)}, "m.json", ModelError)
    del body["layers"]["transformer"][1]
    assert parse_object(text_of(body, "m.json"), "m.json") == body


def test_a_string_that_nothing_ends_is_looked_at_once(tmp_path: Path) -> None:
    """Half a megabyte took minutes: from each of its quotes, what is left was looked at."""
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(b'["' + b'\\"' * 250_000)
    with pytest.raises(CheckpointError, match=r"line 1: not readable as json: Unterminated string"):
        list(json_rows(path))
    path.write_bytes(b'{"a": "[\\"[", "b": ' + b"[" * 200)
    with pytest.raises(CheckpointError, match=r"line 1: nested more than 100 levels deep"):
        list(json_rows(path))
