from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from quant.errors import QuantError
from quant.eval.inputs.samples import Sample, make_samples, prompts_of

PROMPTS = ["a red fox", 'snow, "deep"', "ein Schiff, größer als der Hafen"]


def write(folder: Path, kind: str) -> Path:
    path = folder / f"prompts.{kind}"
    rows: list[dict[str, Any]] = [{"number": i, "prompt": prompt} for i, prompt in enumerate(PROMPTS)]
    if kind == "txt":
        path.write_text("\n\n".join(PROMPTS), encoding="utf-8")
    elif kind == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    elif kind == "json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    elif kind == "csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["number", "prompt"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        Dataset.from_list(rows).to_parquet(path)
    return path


@pytest.mark.parametrize("kind", ["txt", "jsonl", "json", "csv", "parquet"])
def test_every_kind_of_file_gives_the_same_prompts(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, kind)
    assert prompts_of(str(path), None) == PROMPTS
    assert prompts_of(str(path), 2) == PROMPTS[:2]
    with pytest.raises(QuantError, match="3 prompts, 4 samples were asked for"):
        prompts_of(str(path), 4)


def test_a_folder_is_read_as_a_data_set(tmp_path: Path) -> None:
    write(tmp_path, "parquet").rename(tmp_path / "train.parquet")
    assert prompts_of(str(tmp_path), None) == PROMPTS


def test_a_name_with_the_signs_of_a_pattern_is_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "prompts[1].txt").write_text("\ufeffa red fox\n")
    (tmp_path / "prompts1.txt").write_text("another\n")
    assert prompts_of(str(tmp_path / "prompts[1].txt"), None) == ["a red fox"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.jsonl", '{"words": "a fox"}', "no column named prompt, caption, text; it has words"),
        ("p.jsonl", '{"prompt": 7}', "row 1: 'prompt' must be text, got 7"),
        ("p.jsonl", "{", "line 1: not readable as json"),
        ("p.txt", "\n \n", "no prompts in it"),
        ("p.txt", "", "no prompts in it"),
        ("p.pdf", "a fox", r"prompts are read from \.txt, \.jsonl"),
    ],
)
def test_files_without_prompts_are_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(QuantError, match=rf"{name}: .*{message}"):
        prompts_of(str(tmp_path / name), None)
    with pytest.raises(QuantError, match="no such file or folder of prompts"):
        prompts_of(str(tmp_path / "none.txt"), None)


def test_a_list_with_too_few_prompts_is_refused_in_the_words_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"^prompts: 3 prompts, 4 samples were asked for: take fewer --samples$"):
        prompts_of(PROMPTS, 4)
    assert prompts_of(PROMPTS, 3) == prompts_of(PROMPTS, None) == PROMPTS


def test_a_samples_id_depends_on_its_prompt_and_seed_alone() -> None:
    few, many = make_samples(PROMPTS[:1], [5]), make_samples([*PROMPTS, PROMPTS[0]], [5, 8])
    assert set(few) < set(many)
    assert few[0] == Sample("a red fox", 5)
    # 4 prompts with two seeds each; "a red fox" comes with 5 and 8 from both of its places, once each.
    assert sorted((s.prompt, s.seed) for s in many if s.prompt == "a red fox") == [
        ("a red fox", seed) for seed in (5, 8, 11)
    ]
    assert [sample.id for sample in many] == sorted(sample.id for sample in many)
    assert len({sample.id for sample in many}) == len(many)
