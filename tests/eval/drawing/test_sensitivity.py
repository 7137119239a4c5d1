"""The picture holds every figure, and shades them by size."""

from __future__ import annotations

import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest

import quant
from quant.eval.drawing.sensitivity import percent, sensitivity_svg


def unit(name: str, error: float, *steps: float) -> quant.SensitivityUnit:
    return quant.SensitivityUnit("transformer", name, (name,), "W4A8", error, steps, 10, 40)


FOUND = quant.Sensitivity(
    "w4a8 <mine>",
    "0" * 64,
    "made/up",
    ("a",),
    (0, 9),
    (999.0, 3.0),
    (
        unit("blocks.0.attn1.to_q", 0.01, 0.002, 0.03),
        unit("blocks.1.attn1.to_q", 0.1, 0.2, 0.05),
        unit("blocks.0.ffn.net.2", 0.02, 0.01, 0.025),
        unit("proj_out", 0.0, 0.0, 0.0),
    ),
)


def test_every_unit_is_a_cell_and_the_worst_are_shown_by_step() -> None:
    root = ElementTree.fromstring(sensitivity_svg(FOUND))
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert "w4a8 <mine> on made/up" in texts
    assert [t for t in texts if t == "blocks.*.attn1.to_q"] == ["blocks.*.attn1.to_q"]
    for shown in ("1.0%", "10%", "2.0%", "0.20%", "3.0%", "20%", "5.0%", "2.5%"):
        assert shown in texts
    odd = sensitivity_svg(replace(FOUND, model="a\udcff/b\x1b"))  # a folder's name that is no text
    assert r"w4a8 <mine> on a\udcff/b\x1b" in ElementTree.fromstring(odd.encode()).itertext()
    # 4 units, and 4 by 2 steps
    assert len([element for element in root.iter() if element.tag.endswith("rect")]) == 1 + 4 + 8
    assert texts.index("blocks.1.attn1.to_q") < texts.index("blocks.0.ffn.net.2")


def test_long_names_have_room_and_short_ones_no_more_than_before() -> None:
    def left(name: str) -> tuple[float, float]:
        """Where row names end, and the picture's width."""
        found = sensitivity_svg(quant.Sensitivity("r", "0" * 64, "m", (), (0,), (1.0,), (unit(name, 0.1, 0.1),)))
        (at,) = {float(x) for x in re.findall("<text x='([0-9.]+)' y='[0-9.]+' text-anchor='end'", found)}
        return at, float(ElementTree.fromstring(found).attrib["width"])

    assert left("blocks.0.attn1.to_q") == (182, 480)
    at, width = left("condition_embedder.text_embedder.linear_1.a_long_name")
    assert at >= 53 * 6.5
    assert width >= at + 46
    long = sensitivity_svg(quant.Sensitivity("r" * 50, "0" * 64, "m" * 50, (), (0,), (1.0,), (unit("a", 0.1, 0.1),)))
    assert float(ElementTree.fromstring(long).attrib["width"]) >= 104 * 8


def test_for_a_page_it_has_classes_instead_of_colours() -> None:
    text = sensitivity_svg(FOUND, themed=True)
    assert "white" not in text
    assert "fill" not in text
    strengths = [float(value) for value in re.findall("--strength:([0-9.]+)", text)]
    assert len(strengths) == 4 + 8
    # Of 1%, 10% and 2% by their logarithm; nothing at all has none.
    assert strengths[:4] == pytest.approx([0, 1, 0.301, 0], abs=1e-3)
    assert re.findall("class='(on-[a-z]+)'", text)[:4] == ["on-light", "on-deep", "on-light", "on-light"]


def test_darker_is_worse() -> None:
    text = sensitivity_svg(FOUND)
    cells = re.findall(r"fill='rgb\((\d+),\d+,\d+\)'/><text[^>]*>([\d.]+)%", text)[:3]
    reds = {float(value): int(red) for red, value in cells}
    assert reds[1.0] > reds[2.0] > reds[10.0]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.0123, "1.2%"), (0.00012, "0.012%"), (0.5, "50%"), (1.25, "125%")]
)
def test_two_figures_count(value: float, text: str) -> None:
    assert percent(value) == text
