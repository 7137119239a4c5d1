"""The inputs of a demo: chosen evenly, and written so that they read back as they were."""

from __future__ import annotations

from pathlib import Path

import pytest

import quant
from quant.errors import QuantError
from quant.eval.demo_rows import rows_of, spread, write_table
from quant.pipelines.media import Media, files_in
from quant.pipelines.rows import Row, prompt_rows
from tests import tiny_pipelines
from tests.tiny_pipeline import save_pipeline

NONE = quant.GenerationSettings()


def test_prompts_and_tables_are_rows_of_the_models_call(tmp_path: Path) -> None:
    model = save_pipeline(tmp_path / "model")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a fox\n\n  snow \n")
    found = rows_of(model, prompts, NONE)
    assert [row.text for row in found] == ["a fox", "snow"] and all(row.is_prompt for row in found)
    assert [row.text for row in rows_of(model, prompts, NONE, 1)] == ["a fox"]
    prompts.write_text("\n")
    with pytest.raises(QuantError, match="no rows in it"):
        rows_of(model, prompts, NONE)
    with pytest.raises(QuantError, match="no such file"):
        rows_of(model, tmp_path / "none.txt", NONE)
    (tmp_path / "inputs.jsonl").write_text('{"prompt": "a", "video": "clip.mp4"}')
    with pytest.raises(QuantError, match="row 1: WanPipeline takes no 'video'"):
        rows_of(model, tmp_path / "inputs.jsonl", NONE)


def test_rows_are_taken_evenly() -> None:
    rows = prompt_rows([str(i) for i in range(8)])
    assert [row.text for row in spread(rows, 3)] == ["0", "2", "5"]
    assert spread(rows, 20) == rows


def test_a_written_table_reads_back_from_anywhere(tmp_path: Path) -> None:
    model = tiny_pipelines.save("control", tmp_path)
    rows = rows_of(model, tiny_pipelines.table("control", tmp_path, 1), NONE)
    held = Media("in the data set.mp4", None, (tmp_path / "clip.mp4").read_bytes())
    rows.append(Row(2, {**rows[0].values, "video": held}))
    out = tmp_path / "elsewhere"
    write_table(rows, out / "inputs.jsonl", out / "media")
    again = rows_of(model, out / "inputs.jsonl", NONE)
    for before, after in zip(rows, again, strict=True):
        assert before.text == after.text and set(before.values) == set(after.values)
        one, other = ([each.plain()["sha256"] for each in files_in(row.values)] for row in (before, after))
        assert one == other and len(one) == 2
    assert len(list((out / "media").iterdir())) == 1  # the others are named by where they lie
