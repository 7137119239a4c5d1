"""The benchmark as a whole on a pretended device: what time allows is written, what not is listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu import bench, shapes
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.budget import Budget
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.shapes import Rows, Shape
from benchmarks.gpu.timing import Run

SMALL = [Shape("m", f"layer {i}", 16 * (i + 1), 32, 512) for i in range(3)]


def timer(run: Run) -> float:
    run()
    return 0.001


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU in the place of a Hopper GPU, on which no kernel of quant runs, and few small shapes."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(bench, "copy_rate", lambda timer, device: 1e9)
    monkeypatch.setattr(bench, "COMPILE_SHARE", 0.0)
    monkeypatch.setattr(shapes, "matmuls", lambda quick: SMALL)
    monkeypatch.setattr(shapes, "rows", lambda quick: [Rows(16, 512, False)])


@pytest.mark.usefixtures("small")
def test_everything_is_written_and_a_failure_of_ours_is_said(tmp_path: Path) -> None:
    run = Bench(tmp_path / "out.json", torch.device("cpu"), timer, Budget(600), quick=True)
    with torch.no_grad():
        run.run()
    body: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    assert [each["layer"] for each in body["shapes"]] == ["layer 0", "layer 1", "layer 2"]
    assert len(body["rows"]) == 1
    assert body["skipped"] == []
    timed = [each for shape in body["shapes"] for each in shape["contestants"] if each["outcome"] == "timed"]
    assert {each["ratio_to_bf16"] for each in timed} == {1.0}
    assert run.ended() == "3 matmuls and 1 sizes of rows measured, 0 skipped"
    assert any(line.startswith("quant quantize_rows, int8: failed: ValueError") for line in run.broken())
    assert not any("refused" in line for line in run.broken())


@pytest.mark.usefixtures("small")
def test_without_time_everything_is_listed_as_skipped(tmp_path: Path) -> None:
    run = Bench(tmp_path / "out.json", torch.device("cpu"), timer, Budget(0.0), quick=False)
    run.run()
    body = json.loads((tmp_path / "out.json").read_text())
    assert body["shapes"] == body["rows"] == []
    assert [each["reason"] for each in body["skipped"]] == ["the 0 s of the benchmark were over"] * 4


@pytest.mark.usefixtures("small")
def test_a_shape_that_does_not_fit_is_listed_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inputs(shape: Shape, device: torch.device) -> Inputs:
        if shape == SMALL[1]:
            raise torch.OutOfMemoryError("made up: out of memory")
        return Inputs(shape, device)

    monkeypatch.setattr(bench, "Inputs", inputs)
    run = Bench(tmp_path / "out.json", torch.device("cpu"), timer, Budget(600), quick=True)
    with torch.no_grad():
        run.run()
    body = json.loads((tmp_path / "out.json").read_text())
    assert [each["layer"] for each in body["shapes"]] == ["layer 0", "layer 2"]
    assert [each["reason"] for each in body["skipped"]] == ["OutOfMemoryError: made up: out of memory"]
