from __future__ import annotations

from typing import Any

import pytest

from quant.eval.drawing.axes import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from quant.eval.drawing.step_error import curves, step_errors
from quant.eval.results.recorded import Recorded
from tests.eval.report.pages import plot, words
from tests.eval.report.small_run import recorded


def with_errors(*errors: list[float] | None) -> Recorded:
    found = recorded()
    models: Any = found.candidates
    for model, values in zip(models, errors, strict=True):
        steps = None if values is None else list(range(1, len(values) + 1))
        model["step_error"] = steps and {"steps": steps, "error": values, "estimated": "from <9> entries"}
    return found


def lines(html: str) -> dict[str, list[tuple[float, float]]]:
    """By model's name, the places of its line's points."""
    found = {}
    for group in plot(html).iter("g"):
        (line,) = group.iter("polyline")
        pairs = [pair.split(",") for pair in line.attrib["points"].split()]
        found[group.attrib["data-model"]] = [(float(x), float(y)) for x, y in pairs]
    return found


def test_curves_are_what_was_recorded() -> None:
    first, second = curves(recorded())
    assert (first.name, first.place, first.steps) == ("w8a8", 1, [1, 2, 3, 4])
    assert first.errors == pytest.approx([1e-4, 4e-4, 1e-3, 3e-3])
    assert (second.name, second.place, second.errors) == ("w4a8 edges", 2, [0.001, 0.004, 0.01, 0.03])


def test_steps_count_from_one_and_errors_lie_on_a_logarithmic_axis() -> None:
    html = step_errors(with_errors([0.01, 0.1], [0.01, 0.001])).html
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    # Of 0.5..2.5, steps 1 and 2 are a quarter and three quarters; 1% is the middle of 0.1%..10%.
    across = [LEFT + (right - LEFT) * share for share in (0.25, 0.75)]
    found = lines(html)
    assert [x for x, _ in found["w8a8"]] == pytest.approx(across, abs=0.06)
    assert found["w8a8"][0][1] == pytest.approx((TOP + bottom) / 2, abs=0.06)
    up, down = found["w8a8"][1][1], found["w4a8 edges"][1][1]
    assert TOP < up < (TOP + bottom) / 2 < down < bottom
    assert up - TOP == pytest.approx(bottom - down, abs=0.11)
    texts = [text.text for text in plot(html).iter("text")]
    assert [text for text in texts if text and text.endswith("%")] == ["0.10%", "1.0%", "10%"]
    assert {"1", "2", "denoising step", "relative difference of the latents"} <= set(texts)
    assert "3" not in texts
    assert plot(html).attrib["aria-label"].startswith("Relative difference of the latents from the original’s")


def test_the_legend_has_the_last_error_and_the_caption_what_it_rests_on() -> None:
    html = step_errors(with_errors([0.01, 0.0234], None)).html
    assert "w8a8 2.3% Mean over samples, estimated from <9> entries; logarithmic." in words(html)
    assert "Not recorded: w4a8 edges." in words(html)
    assert "from &lt;9&gt; entries" in html


def test_an_identical_model_is_named_though_it_has_no_place() -> None:
    html = step_errors(with_errors([0.0, 0.01], [0.0, 0.0])).html
    assert [len(places) for places in lines(html).values()] == [1, 0]
    assert "w8a8 1.0% w4a8 edges identical" in words(html)


def test_without_any_error_there_is_no_curve() -> None:
    said = [words(step_errors(found).html) for found in (with_errors(None, None), with_errors([0.0], None))]
    assert said[0] == "No curve: no latents were recorded."
    assert said[1] == "No curve: every latent is identical to the original’s."


def test_names_with_html_in_them_are_shown_as_they_are() -> None:
    found = with_errors([0.1], None)
    names: Any = found.candidates
    names[0]["name"], names[1]["name"] = "<i>a</i>", "<i>b</i>"
    html = step_errors(found).html
    assert "<i>" not in html
    assert "<i>a</i> 10%" in words(html)
    assert "Not recorded: <i>b</i>." in words(html)
