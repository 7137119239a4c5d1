from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from quant.errors import QuantError
from quant.eval.drawing.heat_map import heat_maps
from tests.eval.report.pages import browsed, page, plot, words
from tests.eval.report.small_run import recorded, sensitivity

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
