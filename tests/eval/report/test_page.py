from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from quant.eval.metrics.paired import Frames
from quant.eval.report.page import page
from quant.eval.report.sprites import amplification
from quant.eval.report.table import table
from quant.eval.results import Results

Attributes = dict[str, str]


class Parsed(HTMLParser):
    """All start tags with their attributes, and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Attributes]] = []
        self.text = ""
        self.raw = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._inside = tag

    def handle_data(self, data: str) -> None:
        if self._inside in ("script", "style"):
            self.raw += data
        else:
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def all(self, tag: str) -> list[Attributes]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def parsed(results: Results, frames: list[Frames]) -> Parsed:
    return Parsed(page(results, frames[0], frames[1:]))


def _played(canvas: Attributes) -> npt.NDArray[np.float64]:
    """The frames a canvas plays, in 0..1, cut out of its sheet as the page's script does."""
    head, _, body = canvas["data-sheet"].partition(",")
    assert head == "data:image/png;base64"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))) / 255
    width, height, columns = int(canvas["width"]), int(canvas["height"]), int(canvas["data-columns"])
    places = [(index // columns * height, index % columns * width) for index in range(int(canvas["data-frames"]))]
    return np.stack([picture[top : top + height, left : left + width] for top, left in places])


def test_nothing_is_asked_of_another_place(results: Results, frames: list[Frames], parsed: Parsed) -> None:
    text = page(results, frames[0], frames[1:])
    assert not re.search(r"https?:|//[a-z]|@import|url\(", re.sub(r"data:image/png;base64,[\w+/=]+", "", text))
    for tag, attributes in parsed.tags:
        for name in {"src", "href", "srcset", "action", "data"} & set(attributes):
            assert attributes[name].startswith(("#", "data:")), (tag, attributes)
    (policy,) = (meta["content"] for meta in parsed.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_every_clip_and_difference_is_in_the_page_within_8_bits(frames: list[Frames], parsed: Parsed) -> None:
    original, *candidates = frames
    factor = amplification([np.abs(clips - original) for clips in candidates])
    canvases = iter(parsed.all("canvas"))
    for index, clip in enumerate(original):
        shown = [clip]
        for clips in candidates:
            shown += [clips[index], (np.abs(clips[index] - clip) * factor).clip(0, 1)]
        for expected in shown:
            assert np.abs(_played(next(canvases)) - expected).max() <= 0.5 / 255 + 1e-5
    assert next(canvases, None) is None


def test_what_others_wrote_is_text_and_no_markup(results: Results, parsed: Parsed) -> None:
    assert len(parsed.all("script")) == 1
    assert "alert" not in parsed.raw
    for sample in results.samples:
        assert sample.prompt in parsed.text
        assert any(canvas["aria-label"] == f"fp8 <b>: {sample.prompt}" for canvas in parsed.all("canvas"))
    assert "toy/<model>" in parsed.text
    assert not any(tag in ("model", "b-") for tag, _ in parsed.tags)


def test_the_template_is_filled_in_whole(parsed: Parsed) -> None:
    assert not re.search(r"\$\{?[a-z]", parsed.text + parsed.raw)


def test_every_cell_of_the_table_is_shown(results: Results, parsed: Parsed) -> None:
    for row in table(results).rows:
        for cell in row:
            assert cell in parsed.text


def test_rows_can_be_ordered_by_every_key_that_is_offered(results: Results, parsed: Parsed) -> None:
    offered = [option["value"] for option in parsed.all("option")]
    assert offered == ["worst", "number", "by0", "by1"]
    rows = parsed.all("article")
    assert [row["id"] for row in rows] == ["clip-0", "clip-1", "clip-2"]
    keys = {key: [float(row[f"data-{key}"]) for row in rows] for key in offered}
    assert keys["number"] == [0, 1, 2]
    assert keys["by0"] == [30, 1000, 20]
    assert keys["by1"] == [41, 42, 43]
    assert keys["worst"] == [30, 42, 20]


def test_every_dot_leads_to_a_clip(parsed: Parsed) -> None:
    ids = {attributes["id"] for _, attributes in parsed.tags if "id" in attributes}
    links = [link["href"] for link in parsed.all("a")]
    assert len(links) == 6
    assert {link.removeprefix("#") for link in links} <= ids


def test_ids_are_used_once_and_the_script_finds_them(parsed: Parsed) -> None:
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'byId\("([\w-]+)"\)', parsed.raw)) <= set(ids)


def test_verdicts_name_what_is_wrong(parsed: Parsed) -> None:
    assert parsed.text.count("as asked") == 3  # the first prompt, by all three models
    assert parsed.text.count("✗ colour") == 3
    assert parsed.text.count("✗ shape") == 3


def test_without_a_judge_no_verdict_is_given(results: Results, frames: list[Frames]) -> None:
    bare = replace(results, original=replace(results.original, judged={}))
    text = Parsed(page(bare, frames[0], frames[1:])).text
    assert "as asked" not in text
    assert "✗" not in text


def test_conditions_are_given(results: Results, parsed: Parsed) -> None:
    for text in ("height 8, width 12, guidance_scale 3.0", "4, 5, 6", results.latents_sha256, "torch 2.9, python 3.11"):
        assert text in parsed.text


def test_large_pictures_are_reduced_and_the_page_says_so(results: Results) -> None:
    large = np.random.default_rng(0).random((3, 2, 4, 700, 3), dtype=np.float32)
    parsed = Parsed(page(results, large, [large, large]))
    assert {(canvas["width"], canvas["height"]) for canvas in parsed.all("canvas")} == {("233", "1")}
    assert "Reduced to at most 320 pixels a side" in parsed.text
