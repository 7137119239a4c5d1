"""Values in messages stay short, harmless and one line, whatever they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.errors import QuantError
from quant.text import MESSAGE, VALUE, cut, first_line, kind_and_line, printable, shown


def bomb(levels: int) -> list[Any]:
    """Ten references to ten references to ...: small in memory, huge when written."""
    value: list[Any] = ["x"] * 10
    for _ in range(levels):
        value = [value] * 10
    return value


@pytest.mark.parametrize(
    "make",
    [
        lambda: bomb(50),
        lambda: {"a": bomb(50)},
        lambda: "y" * 10**7,
        lambda: 10**5000,
        lambda: list(range(10**6)),
        lambda: b"z" * 10**6,
    ],
)
def test_large_values_are_cut(make: Callable[[], object]) -> None:
    assert 0 < len(shown(make())) <= VALUE


@pytest.mark.parametrize("value", [4.0, None, True, "re:.*", ["a", "b"], {"num_bits": 4}])
def test_small_values_are_their_repr(value: object) -> None:
    assert shown(value) == repr(value)


@given(st.text(), st.integers(5, 50))
def test_a_cut_text_keeps_both_ends(text: str, limit: int) -> None:
    found = cut(text, limit)
    assert len(found) <= limit
    assert found == text if len(text) <= limit else found[0] == text[0] and found[-1] == text[-1]


@given(st.text())
def test_printable_text_moves_no_cursor(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()


def test_a_message_is_one_short_printable_line() -> None:
    assert str(QuantError("a\x1b[31mb\nc\u202e")) == r"a\x1b[31mb\nc\u202e"
    for text in ("x" * 10**6, "\x1b" * 1999, "\U0001f9ff\U000e0001" * 10**6):
        assert len(str(QuantError(text))) == MESSAGE
        assert str(QuantError(str(QuantError(text)))) == str(QuantError(text))
    assert str(QuantError("模型/视频: ok")) == "模型/视频: ok"


def test_the_first_line_of_an_error() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(RuntimeError()) == "RuntimeError"
    assert kind_and_line(ValueError("\nfirst\nsecond")) == "ValueError: first"
    assert kind_and_line(ValueError()) == "ValueError"
    assert kind_and_line(KeyError("x")) == "KeyError: 'x'"
