from __future__ import annotations

import math
from dataclasses import replace

import pytest

from quant.eval.report.table import NOT_A_KERNEL, as_text, decibels, judged_attributes, megabytes, summary, table
from quant.eval.results import Results


def test_cells(results: Results) -> None:
    shown = table(results)
    assert shown.headings == (
        "model",
        "scheme",
        "stored",
        "of bf16",
        "PSNR mean",
        "PSNR min",
        "colour",
        "shape",
        "s/step",
    )
    assert shown.rows == (
        ("original", "bf16", "2.00 MB", "100%", "-", "-", "2/3", "2/3", "0.250"),
        ("w8a8", "W8A8", "1.10 MB", "55%", "25.0", "20.0", "2/3", "2/3", "0.500"),
        ("fp8 <b>", "FP8", "1.00 MB", "50%", "42.0", "41.0", "2/3", "2/3", "-"),
    )


def test_an_identical_model_says_so(results: Results) -> None:
    same = replace(results.candidates[0], psnr=(math.inf,) * 3)
    assert table(replace(results, candidates=(same,))).rows[1][4:6] == ("identical", "identical")


def test_without_a_judge_there_are_no_columns_for_it(results: Results) -> None:
    bare = replace(results, original=replace(results.original, judged={}))
    assert judged_attributes(bare) == ()
    assert table(bare).headings[4:] == ("PSNR mean", "PSNR min", "s/step")


def test_text_is_aligned_words_left_and_figures_right(results: Results) -> None:
    lines = as_text(table(results)).split("\n")
    assert len(lines) == 5
    assert lines[1] == "-" * max(map(len, lines))
    assert lines[0].startswith("model     scheme   stored  of bf16  PSNR mean")
    assert lines[3].startswith("w8a8      W8A8    1.10 MB      55%       25.0")
    assert len({len(line) for line in (lines[0], *lines[2:])}) == 1


def test_a_summary_says_what_its_figures_mean(results: Results) -> None:
    text = summary(results)
    assert text.startswith(as_text(table(results)) + "\n\n")
    assert "3 prompts" in text
    assert f"s/step: a batch of 2; {NOT_A_KERNEL}." in text


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
