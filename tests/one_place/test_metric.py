"""What a stranger adds is one object in one table: each kind of thing, defined in a test, is run end to end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import quant
from quant.eval.metrics import table
from quant.eval.metrics.base import Own, Video
from quant.eval.report.score_table import score_table
from quant.eval.results.recorded import read
from quant.eval.results.schema import read_results
from quant.eval.results.summary import summary
from quant.eval.runs.running import run_evaluation
from quant.files.video_files import read_words, to_frames
from tests.eval.runs.conftest import tiny
from tests.tiny_pipeline import save_pipeline

ROOT = Path(__file__).parent.parent


def files_with(word: str) -> list[Path]:
    """The product's files that know a toy by its name."""
    return [
        path
        for room in ("quant", "eval", "kernels")
        for path in (ROOT / room).rglob("*.py")
        if word in path.read_text()
    ]


@dataclass(frozen=True, kw_only=True)
class Redness(Own):
    """How red a video is."""

    def score(self, video: Video, network: Any) -> float:
        return float(video.frames[..., 0].mean())


REDNESS = Redness(key="toy_redness", title="Toy redness", heading="toy red", digits=5)


def test_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "METRICS", (*table.METRICS, REDNESS))
    save_pipeline(tmp_path / "model")
    quant.calibrate(tmp_path / "model", "fp8-dynamic", tmp_path / "fp8", full=True)
    folder = run_evaluation(tiny(tmp_path), tmp_path / "runs")
    results = read_results(folder)
    original, candidate = results["models"]
    for model in (original, candidate):
        for sample, scores in model["scores"].items():
            frames = to_frames(read_words(folder / "frames" / model["fingerprint"] / f"{sample}.mkv"))
            assert scores["toy_redness"] == float(frames[..., 0].mean())
        assert model["summary"]["toy_redness"]["n"] == 3
    loss = next(each["loss"] for each in candidate["verdicts"] if each["metric"] == "toy_redness")
    ratio = candidate["summary"]["toy_redness"]["value"] / original["summary"]["toy_redness"]["value"]
    assert loss["value"] == pytest.approx(1 - ratio)
    column = summary(results).headings.index("toy red")
    assert summary(results).rows[1][column] == f"{candidate['summary']['toy_redness']['value']:.3f}"
    html = score_table(read(folder)).html
    own = html.partition("Of each model’s own videos")[2]
    assert "Toy redness<small>higher is better" in own
    assert f"{candidate['summary']['toy_redness']['value']:.5f}" in own
    assert files_with("toy_redness") == []
