from __future__ import annotations

import math

import pytest

from quant.eval.report.table import Table, as_markdown, as_text, decibels, megabytes

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
