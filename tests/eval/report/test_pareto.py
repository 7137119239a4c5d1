from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from quant.eval.report.axes import Scale, round_step
from quant.eval.report.pareto import Point, frontier, pareto, points
from quant.eval.report.recorded import Recorded
from quant.eval.report.words import metric
from tests.eval.report.small_run import NOISE, fingerprint, speed


def model(name: str, stored: int, psnr: float | None = None, identical: int = 0) -> dict[str, Any]:
    summary = {"psnr": {"value": psnr, "low": None, "high": None, "n": 4, "identical": identical}}
    given = {} if name == "original" else summary
    return {"name": name, "fingerprint": fingerprint(name), "stored_bytes": stored, "bf16_bytes": 100, "summary": given}


def recorded(timed: dict[str, Any] | None, models: list[dict[str, Any]] | None = None) -> Recorded:
    names = list(NOISE)
    models = models or [model("original", 100), model(names[0], 58, 50.0), model(names[1], 35, 32.0)]
    return Recorded(Path("run"), {"models": models, "speed": timed, "samples": [{}]})


def test_speedups_are_ratios_and_estimates_stay_apart() -> None:
    found = {(point.name, point.estimated): point.x for point in points(recorded(speed()), "psnr", "step")}
    assert found == pytest.approx(
        {("w8a8", False): 1 / 1.5, ("w4a8 edges", False): 1 / 1.6, ("w8a8", True): 1.8, ("w4a8 edges", True): 1.5}
    )
    whole = points(recorded(speed()), "psnr", "end_to_end")
    assert not any(point.estimated for point in whole)  # only a step is estimated


def test_times_of_a_cpu_say_that_they_are_no_kernels() -> None:
    html = pareto(recorded(speed())).html
    assert "reference arithmetic on a CPU: not a kernel’s time" in html
    assert html.count('class="mark hollow"') == 2
    assert "Hollow: estimated for H100 SXM" in html


def test_times_of_a_gpu_name_it() -> None:
    timed = speed() | {"device": {"name": "RTX 4090", "type": "cuda"}, "label": "measured on RTX 4090"}
    html = pareto(recorded(timed | {"estimated": None})).html
    assert "measured on RTX 4090" in html
    assert "reference arithmetic" not in html
    assert "hollow" not in html


def test_without_times_quality_stands_against_size() -> None:
    assert [point.x for point in points(recorded(None), "psnr", "step")] == [0.58, 0.35]
    html = pareto(recorded(None)).html
    assert "nothing was timed" in html
    assert "×" not in html


def test_a_failed_model_is_left_out() -> None:
    timed = speed() | {"estimated": None}
    timed["models"]["w8a8"]["failed"] = "out of memory"
    assert [point.name for point in points(recorded(timed), "psnr", "step")] == ["w4a8 edges"]


def test_identical_videos_are_drawn_and_named() -> None:
    models = [model("original", 100), model("w8a8", 58, None, identical=4)]
    (point,) = points(recorded(None, models), "psnr", "step")
    assert math.isinf(point.y)
    assert "w8a8, identical" in pareto(recorded(None, models)).html
    assert "nothing to plot" in pareto(recorded(None, [model("original", 100), model("w8a8", 58)])).html


def test_the_frontier_holds_what_nothing_beats() -> None:
    def point(name: str, x: float, y: float) -> Point:
        return Point(name, 1, x, y, None, None, 1)

    found = [point("fast", 2, 30), point("close", 1, 50), point("beaten", 1.5, 29), point("middle", 1.5, 40)]
    psnr, lpips = metric("psnr"), metric("lpips_alex")
    assert [p.name for p in frontier(found, psnr, by_size=False)] == ["close", "middle", "fast"]
    assert [p.name for p in frontier(found, psnr, by_size=True)] == ["close"]  # the smallest and the best
    assert [p.name for p in frontier(found, lpips, by_size=False)] == ["beaten", "fast"]


def test_scales() -> None:
    assert Scale(0, 10, 100, 200)(2.5) == 125
    assert Scale(0.01, 100, 0, 400, log=True)(1) == pytest.approx(200)
    assert Scale(0.01, 100, 0, 400, log=True).ticks == [0.01, 0.1, 1, 10, 100]
    assert Scale(0.13, 0.91, 0, 1).ticks == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [round_step(width) for width in (0.9, 1, 1.1, 3, 7)] == [1, 1, 2, 5, 10]
