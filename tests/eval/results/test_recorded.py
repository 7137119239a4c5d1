from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quant.eval.results.recorded import overall, read, sample_score, stored_share
from quant.eval.results.schema import validate
from tests.eval.report.small_run import recorded


def test_the_run_that_the_tests_read_is_one_that_an_evaluation_could_write() -> None:
    validate(recorded().body, "small run")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    body = recorded().body
    (tmp_path / "results.json").write_text(json.dumps(body))
    found = read(tmp_path)
    assert found.body == {**body, "models": [{**model, "failed": None} for model in body["models"]]}
    assert [found.place(model) for model in found.models] == [0, 1, 2]
    assert [model["name"] for model in found.candidates] == ["w8a8", "w4a8 edges"]


@pytest.mark.parametrize(
    ("stored", "whole", "share"), [(58, 100, 0.58), (None, 100, None), (58, None, None), (None, None, None)]
)
def test_a_share_of_what_is_not_known_is_none(stored: int | None, whole: int | None, share: float | None) -> None:
    assert stored_share({"stored_bytes": stored, "bf16_bytes": whole}) == share


def test_only_a_psnr_is_infinite_where_none_is_recorded() -> None:
    model: dict[str, Any] = {"scores": {"a": {"psnr": None, "temporal_psnr": None, "ssim": None, "lpips_alex": 0.25}}}
    found = {
        key: sample_score(model, "a", key) for key in ("psnr", "temporal_psnr", "ssim", "lpips_alex", "clip_frame")
    }
    inf = float("inf")
    assert found == {"psnr": inf, "temporal_psnr": inf, "ssim": None, "lpips_alex": 0.25, "clip_frame": None}
    assert sample_score(model, "b", "psnr") is None


def model(*verdicts: str) -> dict[str, Any]:
    pairs = zip(("psnr", "ssim", "lpips_alex"), verdicts, strict=False)
    return {"verdicts": [{"metric": key, "level": 0.01, "verdict": verdict} for key, verdict in pairs]}


def test_the_worst_verdict_of_all_metrics_decides() -> None:
    assert overall(model("pass", "pass", "pass"), 0.01) == ("pass", ("psnr", "ssim", "lpips_alex"), 3)
    assert overall(model("pass", "not enough samples", "pass"), 0.01) == ("not enough samples", ("ssim",), 3)
    assert overall(model("fail", "not enough samples", "fail"), 0.01) == ("fail", ("psnr", "lpips_alex"), 3)
    assert overall(model("pass"), 0.001) is None
