"""The picture holds every figure, and shades them by size."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import quant
from quant.errors import QuantError
from quant.eval.drawing.sensitivity import heat_maps, percent, sensitivity_svg
from tests.eval.report.pages import browsed, page, plot, words
from tests.eval.report.small_run import recorded, sensitivity


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


#: The colours of the first table's least and most sensitive cells with their figures, and what lies under them.
PROBE = """
const cells = [...document.querySelectorAll(".heat .cell")].slice(0, 6);
const paint = (element) => getComputedStyle(element).fill;
document.documentElement.dataset.seen = JSON.stringify({
  card: getComputedStyle(document.querySelector(".heat")).backgroundColor,
  cells: [cells[0], cells[5]].map(paint),
  figures: [cells[0], cells[5]].map((cell) => paint(cell.nextElementSibling)),
  title: paint(document.querySelector(".heat svg:not(.swatch) text")),
  ground: [...document.querySelectorAll(".heat svg:not(.swatch) > rect:not(.cell)")].length,
});
"""


def test_a_picture_a_candidate_that_has_one() -> None:
    html = heat_maps(recorded()).html
    assert html.count('data-plot="heat"') == 1
    assert words(html).startswith(
        "w4a8 edges The stronger the colour, the more the prediction changes. w4a8 on made/up"
    )


def test_rows_are_layers_and_columns_blocks() -> None:
    texts = [text.text for text in plot(heat_maps(recorded()).html).iter("{http://www.w3.org/2000/svg}text")]
    start = texts.index("transformer: by block")
    # Errors are 0.1% times the block's number from 1; both layers of a block have the same.
    names = ["0", "1", "2", "blocks.*.attn1.to_q", "blocks.*.attn1.to_k"]
    figures = ["0.10%", "0.10%", "0.20%", "0.20%", "0.30%", "0.30%"]
    assert texts[start + 1 : start + 12] == [*names, *figures]
    start = texts.index("the most sensitive, by denoising step")
    assert texts[start + 1 : start + 4] == ["1", "4", "blocks.2.attn1.to_q"]  # steps 0 and 3, counted from 1


def test_where_none_was_recorded_it_says_so() -> None:
    found = recorded()
    models: Any = found.models
    models[2]["sensitivity"] = None
    assert "No sensitivity was recorded; name one under sensitivity in the run’s" in words(heat_maps(found).html)


def test_one_of_another_version_is_refused_by_the_models_name() -> None:
    found = recorded()
    found.models[2]["sensitivity"]["format_version"] = 99
    with pytest.raises(QuantError, match="run: the sensitivity of 'w4a8 edges' cannot be read: format_version 99"):
        heat_maps(found)
    del found.models[2]["sensitivity"]["units"]
    found.models[2]["sensitivity"]["format_version"] = sensitivity()["format_version"]
    with pytest.raises(QuantError, match=r"'w4a8 edges' cannot be read: .*KeyError: 'units'"):
        heat_maps(found)


def test_names_with_html_in_them_are_shown_as_they_are() -> None:
    found = recorded()
    models: Any = found.models
    models[2]["name"] = "<i>mine</i>"
    models[2]["sensitivity"]["recipe"] = "<i>recipe</i>"
    html = heat_maps(found).html
    assert "<i>" not in html
    assert words(html).startswith("<i>mine</i>")
    assert "<i>recipe</i> on made/up" in words(html)


@pytest.mark.parametrize("dark", [False, True])
def test_it_follows_the_page_from_light_to_dark(tmp_path: Path, dark: bool) -> None:
    options = ("--blink-settings=preferredColorScheme=0",) if dark else ("--blink-settings=preferredColorScheme=1",)
    seen = browsed(page(heat_maps(recorded())), PROBE, tmp_path, options=options)

    def light(colour: str) -> float:
        numbers = [float(number) for number in re.findall(r"[\d.]+", colour)[:3]]
        share = numbers if colour.startswith("color(") else [number / 255 for number in numbers]
        return sum(share) / 3

    assert seen["ground"] == 0  # the card is what lies under it
    card, (least, most) = light(seen["card"]), map(light, seen["cells"])
    assert (card < 0.2) is dark
    assert abs(least - card) < 0.15 < abs(most - card)
    for under, over in ((least, seen["figures"][0]), (most, seen["figures"][1]), (card, seen["title"])):
        assert abs(light(over) - under) > 0.4
