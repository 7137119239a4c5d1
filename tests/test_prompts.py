from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from quant.errors import CalibrationError
from quant.prompts import read_prompts


def _file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "a cat\n\n  a dog, running \nein Bär"),
        ("p.txt", "a cat\r\na dog, running\r\n\r\nein Bär\r\n"),
        ("p.txt", "\ufeffa cat\na dog, running\nein Bär\n"),
        ("P.TXT", "a cat\na dog, running\nein Bär\n"),
        ("p.jsonl", '{"prompt": "a cat"}\n{"prompt": "a dog, running"}\n{"prompt": "ein Bär"}\n'),
        ("p.json", '[{"caption": "a cat"}, {"caption": "a dog, running"}, {"caption": "ein Bär"}]'),
        ("p.csv", 'id,text\n1,a cat\n2,"a dog, running"\n3,ein Bär\n'),
        ("p.csv", 'text,prompt\nx,a cat\ny,"a dog, running"\nz,ein Bär\n'),
    ],
)
def test_every_kind_of_file_gives_its_prompts_in_order(tmp_path: Path, name: str, content: str) -> None:
    assert read_prompts(_file(tmp_path, name, content)) == ["a cat", "a dog, running", "ein Bär"]


@pytest.mark.parametrize("column", ["prompt", "caption", "text"])
def test_parquet(tmp_path: Path, column: str) -> None:
    Dataset.from_dict({"id": [1, 2], column: ["one", "two"]}).to_parquet(tmp_path / "p.parquet")
    assert read_prompts(tmp_path / "p.parquet") == ["one", "two"]


@pytest.mark.parametrize(("limit", "count"), [(None, 3), (1, 1), (2, 2), (3, 3)])
def test_a_limit_takes_from_the_start_and_counts_prompts_only(tmp_path: Path, limit: int | None, count: int) -> None:
    path = _file(tmp_path, "p.txt", "\none\n\n\ntwo\nthree\n")
    assert read_prompts(str(path), limit) == ["one", "two", "three"][:count]
    assert read_prompts(["one", "two", "three"], limit) == ["one", "two", "three"][:count]


def test_a_source_with_too_few_prompts_is_refused_and_a_shorter_list_is_not(tmp_path: Path) -> None:
    path = _file(tmp_path, "p.txt", "\none\n\n\ntwo\nthree\n")
    with pytest.raises(CalibrationError) as caught:
        read_prompts(path, 9)
    assert str(caught.value) == f"{path}: 3 prompts, 9 samples were asked for: take fewer --samples"
    assert read_prompts(path, 9, enough=False) == read_prompts(["one", "two", "three"], 9) == ["one", "two", "three"]


def test_a_folder_is_read_as_a_data_set(tmp_path: Path) -> None:
    Dataset.from_dict({"prompt": ["one", "two"]}).to_parquet(tmp_path / "train.parquet")
    assert read_prompts(tmp_path, 2) == ["one", "two"]


@pytest.mark.parametrize("name", ["p[1].txt", "p*.txt", "p?.txt"])
def test_a_name_is_not_a_pattern(tmp_path: Path, name: str) -> None:
    _file(tmp_path, "p1.txt", "of another file\n")
    assert read_prompts(_file(tmp_path, name, "of this file\n")) == ["of this file"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", "", "no prompts in it; write one a line"),
        ("p.txt", "\n  \n\t\n", "no prompts in it; write one a line"),
        ("p.jsonl", "\n\n", "no prompts in it; write one a line"),
        ("p.csv", "prompt\n", "no prompts in it; write one a line"),
        ("p.txt", b"\xff\xfea\n", "not readable as text: "),
        ("p.jsonl", '{"prompt":\n', "line 1: not readable as json: "),
        ("p.parquet", b"prompt", "not readable as parquet: "),
        ("p.yaml", "- a cat\n", "prompts are read from .txt, .jsonl, .json, .parquet, .csv files"),
        ("prompts", "a cat\n", "prompts are read from .txt"),
        ("p.csv", "id,prompts\n1,x\n", "no column named prompt, caption, text; it has id, prompts"),
        ("p.jsonl", '{"id": 1}\n', "no column named prompt, caption, text; it has id"),
        ("p.jsonl", '{"prompt": 3}\n', "row 1: 'prompt' must be text, got 3"),
        ("p.jsonl", '{"prompt": "a"}\n{"prompt": null}\n', "row 2: 'prompt' must be text, got None"),
        ("p.json", '{"prompt": ["a", "b"]}', "row 1: 'prompt' must be text, got ['a', 'b']"),
        ("p.json", '{"prompt": ' + "[" * 1000 + "]" * 1000 + "}", "line 1: nested more than 100 levels deep"),
        ("p.jsonl", '{"prompt": "a"}\n{"a": "[", "prompt":' + "[{" * 60, "line 2: nested more than 100 levels deep"),
        ("p.json", "[" * 200_000, "line 1: nested more than 100 levels deep"),
        ("p.json", "3", "line 1: a row must be an object or a text, got 3"),
        ("p.json", '[null, {"prompt": "a"}]', "row 1: a row must be an object or a text, got None"),
        ("p.json", '[Infinity, {"prompt": "a"}]', "row 1: a row must be an object or a text, got inf"),
        ("p.json", '[\n{"prompt": "a"},\n', "not readable as json: "),
        ("p.jsonl", '{"prompt": 1, "' + "x" * 5000 + '": 1}', "row 1: 'prompt' must be text, got 1"),
        ("p.jsonl", '{"' + "x" * 5000 + '": 1}', "no column named prompt, caption, text; it has xxxx"),
        ("p.jsonl", '{"prompt": [' + "1," * 5000 + "1]}", "row 1: 'prompt' must be text, got [1, 1, 1, 1, ...]"),
        ("p.jsonl", '\ufeff{"prompt"'.encode("utf-16"), "not readable as json: "),
        ("p.csv", "prompt\n1\n2\n", "row 1: 'prompt' must be text, got 1"),
    ],
)
def test_a_file_without_prompts_is_named_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = _file(tmp_path, name, content)
    with pytest.raises(CalibrationError) as caught:
        read_prompts(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 800


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "a ] cat"},
        {"prompt": '[[{ \\" dog'},
        {"prompt": "[{" * 200},
        {"prompt": 3},
    ]
    path = _file(tmp_path, "p.jsonl", "\n".join(map(json.dumps, rows)))
    assert read_prompts(path, 3) == [row["prompt"] for row in rows[:3]]


@pytest.mark.parametrize("name", ["nowhere.txt", "nowhere", "x" * 5000 + ".txt", "a\0b.txt"])
def test_a_file_that_is_not_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(CalibrationError, match="no such file or folder of prompts"):
        read_prompts(tmp_path / name)


def test_a_folder_without_a_data_set(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=f"{tmp_path}: prompts cannot be read: "):
        read_prompts(tmp_path)


def test_a_list_is_taken_as_it_is() -> None:
    assert read_prompts(("a cat", "a dog")) == ["a cat", "a dog"]


@pytest.mark.parametrize(
    ("prompts", "message"), [([], "no prompts were given"), (["a", 3], "prompts must be strings, got 3")]
)
def test_a_list_without_prompts_is_an_error(prompts: list[str], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        read_prompts(prompts)


def test_without_datasets_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts.txt").write_text("snow\n", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CalibrationError, match="needs Hugging Face datasets: pip install datasets"):
        read_prompts(tmp_path / "prompts.txt")
