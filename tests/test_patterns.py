"""Patterns: exact names, whole-name regular expressions, classes."""

from __future__ import annotations

import itertools
import re
import time

import pytest

from quant import patterns
from quant.errors import RecipeError
from quant.patterns import check_pattern, matches

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


def test_a_role_is_what_the_family_says_of_a_layer() -> None:
    assert matches("role:attention", NAME, ("Linear",), "attention")
    assert not matches("role:feed_forward", NAME, ("Linear",), "attention")
    assert not matches("role:None", NAME, ("Linear",))


@pytest.mark.parametrize("pattern", ["role:atention", "role:", "role:Attention", "role: attention"])
def test_a_role_that_there_is_not_is_refused_with_those_there_are(pattern: str) -> None:
    with pytest.raises(RecipeError, match=r"^here: 'role:.*' is no role of a layer; known: role:feed_forward, role:m"):
        check_pattern(pattern, "here")


@pytest.mark.parametrize("pattern", ["Linear", NAME, r"re:^blocks\.(0|5)\..*", "re:", "role:modulation"])
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


@pytest.mark.parametrize(
    "pattern",
    [
        r".*lm_head",
        r"^blocks\.(0|29)\..*",
        r".*\.(attn1|attn2)\.to_(q|k|v|out\.0)$",
        r"(?!.*(norm|embed)).*",
        r"(?i)BLOCKS\.\d+\.ATTN1\..*",
        r"blocks\.(?:[0-9]|1[0-9])\.ffn\.net\.[02](\.proj)?",
        r"(?P<block>blocks\.\d+\.)+.*(?<!to_q)",
        r"(blocks)\.(\d)(.*)\2(.*)",
    ],
)
def test_usual_expressions_mean_what_they_mean_to_python(pattern: str) -> None:
    names = [
        "lm_head",
        "model.lm_head",
        *(f"blocks.{i}.attn{j}.to_{p}" for i in (0, 2, 29, 290) for j in (1, 2) for p in ("q", "out.0")),
        "blocks.7.ffn.net.0.proj",
        "condition_embedder.time_embedder.linear_1",
        "x" * 200,
    ]
    found = [matches(f"re:{pattern}", name, ()) for name in names]
    assert found == [re.fullmatch(pattern, name) is not None for name in names]
    assert any(found)


@pytest.mark.parametrize("pattern", ["(([a-z]|[0-9]|[._])+)+!", "([a-z0-9_.]+)+!", "(.*)*!", "(x+x+)+y"])
def test_expressions_that_python_takes_ages_for(pattern: str) -> None:
    assert not matches(f"re:{pattern}", "x" * 120, ())


def test_names_share_one_allowance_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is stopped when it is used up, and then no other is begun: a thousand layers take no thousand times."""
    monkeypatch.setattr(patterns, "SECONDS", 0.2)
    with pytest.raises(RecipeError, match=r"^'re:.*' takes too long on the layer 'a.*b': write it without nested"):
        matches("re:(?:a|aa)+$", "a" * 150 + "b", ())
    monkeypatch.setattr(patterns, "_compiled", lambda expression: pytest.fail("was begun"))
    with pytest.raises(RecipeError, match="takes too long on the layer 'x'"):
        matches("re:x", "x", ())


def test_many_usual_expressions_are_not_slow_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """More than a cache of some hundred holds, for each name all of them; on a clock of a machine that stands still."""
    clock = itertools.count(0.0, 0.5)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(patterns, "SECONDS", 0.6)
    usual = [check_pattern(rf"re:blocks\.{i}\.attn[12]\.to_(q|k)", "here") for i in range(2000)]
    monkeypatch.setattr(patterns, "_compile", lambda expression: pytest.fail("was compiled twice"))
    for name in [f"blocks.{i}.attn1.to_q" for i in range(10)]:
        assert sum(matches(pattern, name, ()) for pattern in usual) == 1
    assert patterns._Meter.spent < 0.1


@pytest.mark.parametrize(
    "pattern", ["(?:foo){e<=2}", "foo{i}", r"\\N{e}", r"(?#\N{)(?:foo){e}(?#})", "[[:alpha:]]+", "[^[:digit:]]"]
)
def test_what_another_matcher_reads_otherwise_is_refused(pattern: str) -> None:
    with pytest.raises(RecipeError, match=r"^here: 're:.*' is not a regular expression: '.*' here means one thing to "):
        check_pattern(f"re:{pattern}", "here")


@pytest.mark.parametrize("pattern", [r"a\{e\}", r"\N{LATIN SMALL LETTER A}b{2}c{,3}d{1,}", r"[:alpha]", r"a\[:b\]"])
def test_what_both_read_alike_is_not(pattern: str) -> None:
    for name in ("a{e}", "abbd", "a[:b]", "a", ":"):
        assert matches(check_pattern(f"re:{pattern}", "here"), name, ()) is (re.fullmatch(pattern, name) is not None)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("a" * 1001, "longer than 1,000 characters"),
        ("((a{99}){99}){99}", "its counts repeat more than 10,000 times"),
        ("(a{,200}){,200}", "its counts repeat more than 10,000 times"),
        ("(?R)", "unknown extension"),
        (r"\p{L}", "bad escape"),
    ],
)
def test_expressions_that_are_too_large_or_not_pythons(pattern: str, says: str) -> None:
    with pytest.raises(RecipeError, match=rf"^here: 're:.*' is not a regular expression: .*{says}"):
        check_pattern(f"re:{pattern}", "here")
