from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from quant.eval.drawing.axes import LEFT, RIGHT, WIDTH, Scale, round_step
from quant.eval.drawing.pareto import leading_plots, pareto
from quant.eval.metrics.table import display
from quant.eval.results.points import Point, frontier, points
from quant.eval.results.recorded import Recorded
from tests.eval.report.small_run import NOISE, fingerprint, speed


def model(name: str, stored: int, psnr: float | None = None, identical: int = 0) -> dict[str, Any]:
    summary = {"psnr": {"value": psnr, "low": None, "high": None, "n": 4, "identical": identical}}
    given = {} if name == "original" else summary
    return {"name": name, "fingerprint": fingerprint(name), "stored_bytes": stored, "bf16_bytes": 100, "summary": given}


def recorded(timed: dict[str, Any] | None, models: list[dict[str, Any]] | None = None) -> Recorded:
    names = list(NOISE)
    models = models or [model("original", 100), model(names[0], 58, 50.0), model(names[1], 35, 32.0)]
    return Recorded(Path("run"), {"models": models, "speed": timed, "samples": [{}]})


def on_a_gpu() -> dict[str, Any]:
    """The same times, of kernels."""
    return speed() | {"device": {"name": "RTX 4090", "type": "cuda"}, "label": "measured on RTX 4090"}


def labels(html: str) -> list[tuple[str, str, float, float]]:
    """Name, side, x and y of each."""
    found = re.findall(r'<text class="name ([a-z]*)" x="([\d.]+)" y="([\d.]+)">([^<]*)<', html)
    return [(name, side, float(x), float(y)) for side, x, y, name in found]


def point_of(html: str) -> float:
    """Where the first candidate's circle lies."""
    found = re.search(r'<circle class="mark" cx="([\d.]+)"', html)
    assert found is not None
    return float(found[1])


def test_speedups_are_ratios_and_estimates_stay_apart() -> None:
    found = {(point.name, point.estimated): point.x for point in points(recorded(on_a_gpu()), "psnr", "step")}
    assert found == pytest.approx(
        {("w8a8", False): 1 / 1.5, ("w4a8 edges", False): 1 / 1.6, ("w8a8", True): 1.8, ("w4a8 edges", True): 1.5}
    )
    whole = points(recorded(on_a_gpu()), "psnr", "end_to_end")
    assert not any(point.estimated for point in whole)  # only a step is estimated


def test_times_of_a_cpu_are_no_speed() -> None:
    html = pareto(recorded(speed())).html
    assert "estimated for H100 SXM, not measured" in html
    assert html.count('class="mark hollow"') == 2 and 'class="mark"' not in html
    by_size, estimated = leading_plots(recorded(speed()))
    assert estimated.html == html
    assert "stored bytes, as a share of the original’s" in by_size.html
    assert "nothing was timed" not in by_size.html and "hollow" not in by_size.html
    for timed in (None, on_a_gpu()):
        expected = [pareto(recorded(timed), key).html for key in ("psnr", "ssim")]
        assert [plot.html for plot in leading_plots(recorded(timed))] == expected
    assert "Hollow: estimated for H100 SXM" in html


def test_times_of_a_gpu_name_it() -> None:
    html = pareto(recorded(on_a_gpu() | {"estimated": None})).html
    assert "measured on RTX 4090" in html
    assert "reference arithmetic" not in html
    assert "hollow" not in html


def test_without_times_quality_stands_against_size() -> None:
    assert [point.x for point in points(recorded(None), "psnr", "step")] == [0.58, 0.35]
    html = pareto(recorded(None)).html
    assert "nothing was timed" in html
    assert "×" not in html


def test_a_failed_model_is_left_out() -> None:
    timed = on_a_gpu() | {"estimated": None}
    timed["models"]["w8a8"]["failed"] = "out of memory"
    assert [point.name for point in points(recorded(timed), "psnr", "step")] == ["w4a8 edges"]


def test_identical_videos_are_drawn_and_named() -> None:
    models = [model("original", 100), model("w8a8", 58, None, identical=4)]
    (point,) = points(recorded(None, models), "psnr", "step")
    assert math.isinf(point.y)
    assert "w8a8, identical" in pareto(recorded(None, models)).html
    nothing = pareto(recorded(None, [model("original", 100), model("w8a8", 58)]))
    assert "Nothing to plot: no PSNR was taken." in nothing.html


def test_a_size_that_is_not_known_has_an_area_of_its_own_and_no_figure() -> None:
    models = [model("original", 100), model("w8a8", 58, 50.0), model("w4a8 edges", 35, 32.0)]
    models[1]["stored_bytes"] = None
    found = recorded(on_a_gpu() | {"estimated": None}, models)
    assert [point.memory for point in points(found, "psnr", "step")] == [None, 35]
    html = pareto(found).html
    assert "w8a8: 50.0 dB, x 0.667, –" in html
    assert 'r="7.0"' in html  # neither the smallest nor the largest
    by_size = pareto(recorded(None, models)).html
    assert "Not shown, for want of a figure: w8a8." in by_size
    models[0]["stored_bytes"] = None
    assert "neither a time nor a size of a candidate is known" in pareto(recorded(None, models)).html


def test_peak_memory_is_the_area_only_where_every_candidate_has_one() -> None:
    timed = on_a_gpu() | {"estimated": None}
    timed["models"]["w8a8"]["peak_memory_bytes"] = 4_000
    assert [point.memory for point in points(recorded(timed), "psnr", "step")] == [58, 35]
    assert "Area: stored bytes." in pareto(recorded(timed)).html
    timed["models"]["w4a8 edges"]["peak_memory_bytes"] = 1_000
    assert [point.memory for point in points(recorded(timed), "psnr", "step")] == [4_000, 1_000]
    html = pareto(recorded(timed)).html
    assert "Area: peak memory." in html
    assert 'r="11.0"' in html  # a circle; the square beside it has a quarter of that area
    assert f'width="{2 * 5.5 * 0.89:.1f}"' in html


def test_a_long_name_is_shortened_in_the_middle_and_whole_in_its_title() -> None:
    name = "wan2_1_t2v_1_3b_w8a8_smoothquant"
    html = pareto(recorded(None, [model("original", 100), model(name, 58, 50.0), model("a" * 22, 35, 32.0)])).html
    assert ">wan2_1_t2v…moothquant<" in html
    assert f"<title>{name}: 50.0 dB" in html
    assert f">{'a' * 22}</text>" in html


@pytest.mark.parametrize("stored", [34, 300])
def test_a_name_at_the_edge_is_moved_into_the_plot_but_not_from_its_point(stored: int) -> None:
    names = ["candidate one at edge", "candidate two at edge", "candidate 3 at edge"]
    found = recorded(None, [model("original", 100), *(model(name, stored, 40.0) for name in names)])
    shown = labels(pareto(found).html)
    assert [name for name, _, _, _ in shown] == names
    assert len({(side, x, y) for _, side, x, y in shown}) == 3
    for name, side, at, _ in shown:
        wide = 8.2 * len(name)
        left = at - {"": 0.0, "middle": wide / 2, "end": wide}[side]
        assert LEFT - 0.1 <= left <= left + wide <= WIDTH - RIGHT + 0.1, name
        assert left - 17 <= point_of(pareto(found).html) <= left + wide + 17, name


@pytest.mark.parametrize(("slow", "side"), [(4.0, "tick end"), (0.25, "tick")])
def test_the_originals_line_is_named_on_the_side_that_has_room(slow: float, side: str) -> None:
    """Where all are slower the line is at the right edge, where all are faster at the left one."""
    timed = on_a_gpu() | {"estimated": None}
    for name in NOISE:
        timed["models"][name]["stages"]["step"]["median"] = 0.4 * slow
    assert re.findall('<text class="([a-z ]*)" [^>]*>the original<', pareto(recorded(timed)).html) == [side]


def test_the_frontier_holds_what_nothing_beats() -> None:
    def point(name: str, x: float, y: float) -> Point:
        return Point(name, 1, x, y, None, None, 1)

    found = [point("fast", 2, 30), point("close", 1, 50), point("beaten", 1.5, 29), point("middle", 1.5, 40)]
    psnr, lpips = display("psnr"), display("lpips_alex")
    assert [p.name for p in frontier(found, psnr, by_size=False)] == ["close", "middle", "fast"]
    assert [p.name for p in frontier(found, psnr, by_size=True)] == ["close"]  # the smallest and the best
    assert [p.name for p in frontier(found, lpips, by_size=False)] == ["beaten", "fast"]


def test_scales() -> None:
    assert Scale(0, 10, 100, 200)(2.5) == 125
    assert Scale(0.01, 100, 0, 400, log=True)(1) == pytest.approx(200)
    assert Scale(0.01, 100, 0, 400, log=True).ticks == [0.01, 0.1, 1, 10, 100]
    assert Scale(0.13, 0.91, 0, 1).ticks == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert [round_step(width) for width in (0.9, 1, 1.1, 3, 7)] == [1, 1, 2, 5, 10]
