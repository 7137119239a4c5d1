from __future__ import annotations

import math
import re
from html import unescape

import pytest
from nbconvert.filters import markdown2html as markdown

from quant.eval.tables import Table, as_markdown, as_text, code, decibels, megabytes, plain

SHOWN = Table(("model", "scheme", "stored"), (("original", "bf16", "2.00 MB"), ("w8a8", "W8A8", "900.00 MB")))


def test_text_is_aligned_words_left_and_figures_right() -> None:
    assert as_text(SHOWN).split("\n") == [
        "model     scheme     stored",
        "-" * 27,
        "original  bf16      2.00 MB",
        "w8a8      W8A8    900.00 MB",
    ]


def test_markdown_has_figures_on_the_right() -> None:
    assert as_markdown(SHOWN).split("\n")[:3] == [
        "| model | scheme | stored |",
        "| --- | --- | ---: |",
        "| original | bf16 | 2.00 MB |",
    ]


def test_a_bar_in_a_name_does_not_end_its_cell() -> None:
    assert as_markdown(Table(("a", "b"), (("x|y", "1"),), words=1)).split("\n")[2] == "| x\\|y | 1 |"


@pytest.mark.parametrize(("value", "text"), [(30.04, "30.0"), (29.96, "30.0"), (math.inf, "identical"), (-1.0, "-1.0")])
def test_decibels(value: float, text: str) -> None:
    assert decibels(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.00 MB"),
        (1_234_567, "1.23 MB"),
        (99_990_000, "99.99 MB"),
        (10**8, "100 MB"),
        (28_600_000_000, "28,600 MB"),
    ],
)
def test_megabytes_are_decimal(count: int, text: str) -> None:
    assert megabytes(count) == text


def test_a_wide_table_becomes_several_that_fit() -> None:
    shown = Table(("model", "scheme", "PSNR", "SSIM"), (("a", "W8A8", "40.1", "0.99"), ("b\x1b[2J", "", "3", "0.1")))
    assert as_text(shown, 21).splitlines() == [
        "model     scheme",
        "----------------",
        "a         W8A8",
        r"b\x1b[2J",
        "",
        "model     PSNR  SSIM",
        "--------------------",
        "a         40.1  0.99",
        r"b\x1b[2J     3   0.1",
    ]


def test_text_of_others_is_no_markup() -> None:
    evil = "[x](http://a.b) <img src=x> **b** `c` @user #1 www.a.b\nnew _x_ a_b |"
    html = markdown(f"{plain(evil)}\n\n{code('a`b``<i>')}")
    assert unescape(re.sub("<[^>]*>", "", html)).split("\n")[0] == evil.replace("\n", "\\n")
    assert set(re.findall("<([a-z]+)", html)) == {"p", "code"}
    assert "<code>a`b``&lt;i&gt;</code>" in html
