"""How `targets` and `ignore` name layers: an exact name, `re:` and a regular expression, or a class.

Expressions come out of files that anyone may have made, and Python's matcher goes back and tries again: `(a+)+!` on
forty letters takes it 2^40 steps. So the syntax is Python's, and the matcher that of `regex`, which can be stopped.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from functools import lru_cache

import regex

from quant.errors import RecipeError
from quant.text import shown

#: Characters of an expression, and how often its counts, such as {2,9}, may repeat a part of it: both are written out.
MOST_CHARACTERS, MOST_REPEATS = 1000, 10_000
#: Seconds that matching may take without a pause of as long: a usual expression takes microseconds a name.
SECONDS = 1.0


def matches(pattern: str, name: str, class_names: Iterable[str]) -> bool:
    """True where one pattern of a recipe or checkpoint names this layer.

    Args:
        pattern: "blocks.0.ffn.net.2" (that layer), "re:^blocks\\.0\\..*" (the expression must match the whole
            name, unlike llm-compressor, where a prefix is enough), or "Linear" (a class, as `class_names` has it).
        name: the layer's dotted name within its component.
        class_names: names of the layer's class and its bases.

    Raises:
        RecipeError: an expression that takes too long.
    """
    if pattern.startswith("re:"):
        return _fits(pattern, name)
    return pattern == name or pattern in class_names


def check_pattern(pattern: object, where: str) -> str:
    """The pattern, if it is one.

    Raises:
        RecipeError: not a string, empty, or not a regular expression.
    """
    if not isinstance(pattern, str) or not pattern:
        raise RecipeError(f"{where}: a pattern must be a non-empty string, got {shown(pattern)}")
    if pattern.startswith("re:"):
        try:
            _compiled(pattern[3:])
        except (ValueError, re.error, regex.error, OverflowError, RecursionError) as error:
            raise RecipeError(f"{where}: {shown(pattern)} is not a regular expression: {error}") from None
    return pattern


@lru_cache(maxsize=1024)
def _compiled(expression: str) -> regex.Pattern[str]:
    if len(expression) > MOST_CHARACTERS:
        raise ValueError(f"longer than {MOST_CHARACTERS:,} characters")
    counts = [max(map(int, re.findall(r"\d+", count)), default=1) for count in re.findall(r"\{[\d, ]*\}", expression)]
    if math.prod(max(count, 1) for count in counts) > MOST_REPEATS:
        raise ValueError(f"its counts repeat more than {MOST_REPEATS:,} times")
    re.compile(expression)  # what only `regex` knows, such as (?R), would be another language
    return regex.compile(expression)


class _Meter:
    """Time that was spent on matching since it last paused: many names and expressions are slow together, too."""

    spent, last = 0.0, -math.inf


def _fits(pattern: str, name: str) -> bool:
    begun = time.monotonic()
    if begun - _Meter.last > SECONDS:
        _Meter.spent = 0.0
    try:
        if _Meter.spent > SECONDS:
            raise TimeoutError
        return _compiled(pattern[3:]).fullmatch(name, timeout=SECONDS) is not None
    except TimeoutError:
        raise RecipeError(
            f"{shown(pattern)} takes too long on the layer {shown(name)}: write it without nested repetitions"
        ) from None
    finally:
        _Meter.last = time.monotonic()
        _Meter.spent += _Meter.last - begun
