"""Against Python's own matcher, on names short enough for it."""

import re
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.expressions import Expression

_ONE = st.sampled_from(["a", "b", "B", ".", r"\.", "[ab]", "[^a]", "[a-b0-9_]", r"\d", r"\D", r"\w", r"\W", r"\s", "1"])
_ANCHOR = st.sampled_from(["^", "$", r"\A", r"\Z", r"\b", r"\B", "(?!)", ""])
_OPEN = st.sampled_from(["(", "(?i:", "(?s:", "(?=", "(?!", "(?m:"])
_COUNT = st.sampled_from(["*", "+", "?", "*?", "+?", "??", "{2}", "{1,3}", "{2,}", "{0,2}?"])


def _larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"(?:{two[0]}|{two[1]})"),
        st.tuples(inner, _COUNT).map(lambda two: f"(?:{two[0]}){two[1]}"),
        st.tuples(_OPEN, inner).map(lambda two: f"{two[0]}{two[1]})"),
        st.tuples(st.sampled_from(["(?<=", "(?<!"]), _ONE).map(lambda two: f"{two[0]}{two[1]})"),
    )


@settings(max_examples=400, deadline=None)
@given(
    pattern=st.recursive(st.one_of(_ONE, _ONE, _ANCHOR), _larger, max_leaves=8),
    names=st.lists(st.text("abB.1_\n", min_size=1, max_size=6), min_size=1, max_size=6),
)
def test_matches_what_python_matches(pattern: str, names: list[str]) -> None:
    ours = Expression(pattern)
    for name in names:
        assert ours.matches(name) == (re.fullmatch(pattern, name) is not None), (pattern, name)


@pytest.mark.parametrize(
    "pattern",
    [
        r".*lm_head",
        r"^blocks\.(0|29)\..*",
        r".*\.(attn1|attn2)\.to_(q|k|v|out\.0)$",
        r"(?!.*(norm|embed)).*",
        r"(?i)BLOCKS\.\d+\.ATTN1\..*",
        r"(?x) blocks \. [0-9]{1,2} \. .*  # a comment",
        r"blocks\.(?:[0-9]|1[0-9])\.ffn\.net\.[02](\.proj)?",
        r"(?P<block>blocks\.\d+\.)+.*(?<!to_q)",
    ],
)
def test_usual_patterns_on_usual_names(pattern: str) -> None:
    names = [
        "lm_head",
        "model.lm_head",
        *(f"blocks.{i}.attn{j}.to_{p}" for i in (0, 2, 29, 290) for j in (1, 2) for p in ("q", "out.0")),
        "blocks.7.ffn.net.0.proj",
        "blocks.17.ffn.net.2",
        "condition_embedder.time_embedder.linear_1",
        "x" * 200,
    ]
    found = [Expression(pattern).matches(name) for name in names]
    assert found == [re.fullmatch(pattern, name) is not None for name in names]
    assert any(found)


@pytest.mark.parametrize(
    "pattern",
    ["(([a-z]|[0-9]|[._])+)+!", "([a-z0-9_.]+)+!", "(.*)*!", "(.*)(.*)(.*)(.*)(.*)!", "(?:.?){60}.{60}!", "(x+x+)+y"],
)
def test_what_would_take_python_ages_takes_a_moment(pattern: str) -> None:
    """Each takes Python's matcher from minutes to longer than the age of the universe on such a name."""
    assert not Expression(pattern).matches("x" * 120)
    assert Expression(pattern).work < 10_000
    assert Expression(pattern.replace("!", "").replace("y", "x")).matches("x" * 120)


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("[z-a]", "bad character range"),
        ("(", "missing \\), unterminated subpattern"),
        ("(?<=.*)x", "look-behind requires fixed-width pattern"),
        (r"(a)\1", "groupref is not supported"),
        ("(a)(?(1)b|c)", "groupref_exists is not supported"),
        ("(?>a)", "atomic_group is not supported"),
        ("a++", "possessive_repeat is not supported"),
        ("a{99999999999}", "too large"),
        ("(" * 60 + ")" * 60, "more than 50 parentheses"),
        ("(" * 500 + ")" * 500, "nested too deeply|more than 50 parentheses"),
        ("a" * 1001, "longer than 1,000 characters"),
    ],
)
def test_refuses_what_is_none_or_not_supported(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Expression(pattern)


def test_counts_within_counts_are_known_to_be_much_work() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Expression("((a{1000}){1000}){1000}").work > 1_000_000
        assert Expression(r"^blocks\.(0|29)\..*").work < 1_000
