"""VBench's results files.

sample_eval_results.json has the form that vbench/__init__.py, subject_consistency.py, dynamic_degree.py and
imaging_quality.py of VBench 0.1.5 write (commit 45e79ec of github.com/Vchitect/VBench), and that its issue 19 shows;
its figures are made up.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quant.errors import QuantError
from quant.eval.metrics.vbench_results import parse_results

SAMPLE = Path(__file__).parent / "sample_eval_results.json"
FIRST, SECOND = "0a1b2c3d4e5f", "5f4e3d2c1b0a"


def test_scores_by_sample() -> None:
    found = parse_results(SAMPLE, {FIRST, SECOND})
    assert found == {
        "subject_consistency": {"score": 0.9541015625, "videos": {FIRST: 0.966796875, SECOND: 0.94140625}},
        "dynamic_degree": {"score": 0.5, "videos": {FIRST: 1.0, SECOND: 0.0}},
        "imaging_quality": {"score": 0.60546875, "videos": {FIRST: 0.564453125, SECOND: 0.646484375}},
    }


def test_each_score_and_its_videos_have_one_scale() -> None:
    for each in parse_results(SAMPLE, [FIRST, SECOND]).values():
        assert each["score"] == pytest.approx(sum(each["videos"].values()) / 2)
        assert all(type(value) is float for value in each["videos"].values())


@pytest.mark.parametrize("samples", [[FIRST], [FIRST, SECOND, "third"], [FIRST, "other"]])
def test_all_videos_must_be_there_and_no_others(samples: list[str]) -> None:
    with pytest.raises(QuantError, match=r"sample_eval_results.json: subject_consistency: 2 videos that are not"):
        parse_results(SAMPLE, samples)


def _entry(**changes: Any) -> dict[str, Any]:
    return {"video_path": "videos/a.mp4", "video_results": 0.5, **changes}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "cannot be read as VBench's results"),
        ("[" * 100_000, "cannot be read as VBench's results .*nested too deeply"),
        ("[]", "no object with a dimension in it"),
        ("{}", "no object with a dimension in it"),
        (json.dumps({"x": 0.5}), "x: not a score and a list of videos"),
        (json.dumps({"x": [0.5]}), "x: not a score and a list of videos"),
        (json.dumps({"x": [0.5, {}]}), "x: not a score and a list of videos"),
        (json.dumps({"x": [0.5, ["a.mp4"]]}), "x: an entry without a video_path"),
        (json.dumps({"x": [0.5, [{"video_results": 0.5}]]}), "x: an entry without a video_path"),
        (json.dumps({"x": [0.5, [_entry(video_results=None)]]}), "x: a.mp4: None is no finite number"),
        (json.dumps({"x": [float("nan"), [_entry()]]}), "x: nan is no finite number"),
        (json.dumps({"x": ["0.5", [_entry()]]}), "x: '0.5' is no finite number"),
        (json.dumps({"x": [0.5, [_entry(), _entry()]]}), "x: 2 videos that are not the 1 given"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, body: str, message: str) -> None:
    file = tmp_path / "results_eval_results.json"
    file.write_text(body, encoding="utf-8")
    with pytest.raises(QuantError, match=f"results_eval_results.json: {message}"):
        parse_results(file, ["a"])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=r"none.json: cannot be read .*No such file"):
        parse_results(tmp_path / "none.json", ["a"])
