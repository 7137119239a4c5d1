from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from quant.eval.results import FORMAT_VERSION, Results, read_results, write_results


def test_what_is_written_is_read_back(results: Results, tmp_path: Path) -> None:
    write_results(results, tmp_path / "r.json")
    assert read_results(tmp_path / "r.json") == results


def test_an_evaluation_without_judge_or_candidates_is_read_back(results: Results, tmp_path: Path) -> None:
    bare = replace(results, original=replace(results.original, judged={}), candidates=())
    write_results(bare, tmp_path / "r.json")
    assert read_results(tmp_path / "r.json") == bare


def test_the_file_is_json_for_every_reader(results: Results, tmp_path: Path) -> None:
    """JSON has no infinity; Python's own reader would take one."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    write_results(results, tmp_path / "r.json")
    text = (tmp_path / "r.json").read_text(encoding="utf-8")
    body = json.loads(text, parse_constant=refuse)
    assert body["format_version"] == FORMAT_VERSION == 1
    assert body["candidates"][0]["psnr"] == [30.0, None, 20.0]
    assert body["samples"][1] == {"prompt": '<script>alert("&")</script>', "seed": 5}
    assert text.endswith("}\n")


def test_a_figure_that_is_no_number_is_not_written(results: Results, tmp_path: Path) -> None:
    broken = replace(results, candidates=(replace(results.candidates[0], psnr=(math.nan, 1.0, 2.0)),))
    with pytest.raises(ValueError, match="JSON"):
        write_results(broken, tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused(results: Results, tmp_path: Path, version: object) -> None:
    path = tmp_path / "r.json"
    write_results(results, path)
    body = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**body, "format_version": version}), encoding="utf-8")
    with pytest.raises(ValueError, match=f"r.json: format_version {version!r} cannot be read here, only 1"):
        read_results(path)
