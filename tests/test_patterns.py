"""Patterns: exact names, whole-name regular expressions, classes."""

from __future__ import annotations

import pytest

from quant.errors import RecipeError
from quant.patterns import check_pattern, check_work, matches
from quant.recipe import Recipe

NAME = "blocks.10.attn1.to_q"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (NAME, True),
        ("blocks.10.attn1", False),
        ("to_q", False),
        ("blocks.1.attn1.to_q", False),
        ("blocks.10.attn1.to_.", False),
        ("Linear", True),
        ("Module", True),
        ("linear", False),
        ("Conv2d", False),
        (r"re:blocks\.10\.attn1\.to_q", True),
        (r"re:^blocks\.10\..*$", True),
        (r"re:.*to_(q|k)", True),
        (r"re:blocks\.10", False),
        (r"re:blocks\.1", False),
        (r"re:to_q", False),
        ("re:Linear", False),
        ("re:", False),
    ],
)
def test_matches(pattern: str, expected: bool) -> None:
    assert matches(pattern, NAME, ("Linear", "Module")) is expected


def test_an_expression_stands_for_the_whole_name() -> None:
    """`re:blocks.1` must not take block 10 along, and an alternative is not a prefix."""
    assert not matches("re:blocks.1|x", "blocks.10", ())
    assert matches("re:blocks.1|x", "x", ())
    assert not matches("re:a$", "a\n", ())


@pytest.mark.parametrize("pattern", ["Linear", NAME, r"re:^blocks\.(0|5)\..*", "re:"])
def test_check_returns_the_pattern(pattern: str) -> None:
    assert check_pattern(pattern, "here") == pattern


@pytest.mark.parametrize("pattern", ["", None, 3, ["Linear"], b"Linear"])
def test_check_refuses_what_is_no_name(pattern: object) -> None:
    with pytest.raises(RecipeError, match=r"^here: a pattern must be a non-empty string, got "):
        check_pattern(pattern, "here")


@pytest.mark.parametrize("pattern", ["re:(", "re:[a", "re:*", "re:a{99999999999999999999}", "re:" + "(" * 5000])
def test_check_refuses_what_is_no_expression(pattern: str) -> None:
    with pytest.raises(RecipeError, match=r"^here: 're:.*' is not a regular expression: "):
        check_pattern(pattern, "here")


def test_expressions_that_take_too_much_work_together_are_refused() -> None:
    usual = [r"re:^blocks\.(0|29)\..*", "re:.*lm_head", "re:(.*)*!", "Linear"]
    check_work(usual * 100, "here")  # counts each once
    bomb = "re:((a{1000}){1000}){1000}"
    with pytest.raises(RecipeError, match=r"^here: regular expressions that take too much work to match, most of all"):
        check_work([*usual, check_pattern(bomb, "here")], "here")
    with pytest.raises(RecipeError, match="too much work"):
        Recipe.from_dict({"version": 1, "groups": [{"targets": ["Linear", bomb], "scheme": "W8A16"}]}, "here")
