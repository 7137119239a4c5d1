from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.eval.report.strip import Axis, axis, axis_svg, strip_svg

SCALE = Axis(20, 45, 5)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([21.0, 44.0], Axis(20, 45, 5)),
        ([20.0, 45.0], Axis(20, 45, 5)),
        ([12.0, 58.0], Axis(10, 60, 10)),
        ([30.0, math.inf], Axis(30, 35, 5)),
        ([math.inf], Axis(40, 45, 5)),
        ([], Axis(40, 45, 5)),
        ([-3.0, 4.0], Axis(-5, 5, 5)),
    ],
)
def test_an_axis_ends_on_ticks_around_the_finite_values(values: list[float], expected: Axis) -> None:
    assert axis(values) == expected


@given(st.lists(st.floats(-20, 120) | st.just(math.inf), max_size=8))
def test_every_value_has_a_place_within_the_picture(values: list[float]) -> None:
    scale = axis(values)
    assert 2 <= len(scale.ticks) <= 16
    assert (scale.ticks[0], scale.ticks[-1]) == (scale.low, scale.high)
    assert all(8 <= scale.x(value) <= 182 for value in values)


@pytest.mark.parametrize(("value", "x"), [(20, 8), (45, 182), (32.5, 95), (math.inf, 182)])
def test_places_are_in_proportion(value: float, x: float) -> None:
    assert SCALE.x(value) == pytest.approx(x)


def test_the_axis_is_labelled_at_its_ticks() -> None:
    root = ElementTree.fromstring(axis_svg(SCALE))
    assert [(text.get("x"), text.text) for text in root.iter("text")] == [
        (f"{SCALE.x(tick):.1f}", str(tick)) for tick in (20, 25, 30, 35, 40, 45)
    ]


def test_a_strip_has_a_linked_dot_a_clip_and_a_bar_at_the_mean() -> None:
    root = ElementTree.fromstring(strip_svg(SCALE, (30.0, math.inf, 20.0), ("a", "b <&>", "c"), 'x "<y>"'))
    links = list(root.iter("a"))
    assert [link.get("href") for link in links] == ["#clip-0", "#clip-1", "#clip-2"]
    places = [float(circle.get("cx") or "nan") for circle in root.iter("circle")]
    assert places == pytest.approx([SCALE.x(30), SCALE.x(45), SCALE.x(20)], abs=0.06)
    assert [title.text for title in root.iter("title")] == ["30.0: a", "identical: b <&>", "20.0: c"]
    (mean,) = (line for line in root.iter("line") if line.get("class") == "mean")
    assert float(mean.get("x1") or "nan") == pytest.approx(SCALE.x(25), abs=0.06)
    assert root.get("aria-label") == 'x "<y>": from 20.0 to identical, mean 25.0'


def test_what_others_wrote_is_escaped() -> None:
    text = strip_svg(SCALE, (30.0,), ("<script>",), '"><script>')
    assert not re.search("<script", text)
