"""How `targets` and `ignore` name layers: an exact name, `re:` and a regular expression, `role:`, or a class.

Expressions come out of files that anyone may have made, and Python's matcher goes back and tries again: `(a+)+!` on
forty letters takes it 2^40 steps. So the syntax is Python's, and the matcher that of `regex`, which can be stopped.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterable
from typing import ClassVar

import regex

from quant.errors import RecipeError
from quant.text import shown

#: What the layers of a block are for: its feed-forward network, experts included; the Linears that turn the time
#: embedding into shifts, scales and gates (adaLN); its attention.
FEED_FORWARD, MODULATION, ATTENTION = "feed_forward", "modulation", "attention"
ROLES = (FEED_FORWARD, MODULATION, ATTENTION)
_EXPRESSION, _ROLE = "re:", "role:"

#: Characters of an expression, and how often its counts, such as {2,9}, may repeat a part of it: both are written out.
MOST_CHARACTERS, MOST_REPEATS = 1000, 10_000
#: Seconds of the processor that matching may take beyond what is usual, without a pause of as long; and what is usual
#: of one name and one expression, on a slow machine too: it takes 3 to 12 microseconds where this was measured.
SECONDS, USUAL = 1.0, 100e-6
#: What `regex` reads otherwise than Python, after tokens that hold no such thing: a brace that opens no count allows
#: errors, as in {e<=2}, and [:alpha:] is a class.
_OTHERWISE = re.compile(r"\\N\{[\w -]+\}|\\.|(?P<found>\{(?!\d*,?\d*\})|\[:(?=[^\]]*:\]))", re.DOTALL)


def matches(pattern: str, name: str, class_names: Iterable[str], role: str | None = None) -> bool:
    """True where one pattern of a recipe or checkpoint names this layer.

    Args:
        pattern: "blocks.0.ffn.net.2" (that layer), "re:^blocks\\.0\\..*" (the expression must match the whole
            name, unlike llm-compressor, where a prefix is enough), "role:feed_forward" (what a layer is for, one of
            `ROLES`), or "Linear" (a class, as `class_names` has it).
        name: the layer's dotted name within its component.
        class_names: names of the layer's class and its bases.
        role: what the layer is for, as its model's family says; None where that is not known, and in a checkpoint,
            which names its layers.

    Raises:
        RecipeError: an expression that takes too long.
    """
    if pattern.startswith(_EXPRESSION):
        return _fits(pattern, name)
    if is_role(pattern):
        return role is not None and pattern.removeprefix(_ROLE) == role
    return pattern == name or pattern in class_names


def is_role(pattern: str) -> bool:
    """True for a pattern that names layers by what they are for, of which a model may have none."""
    return pattern.startswith(_ROLE)


def is_specific(pattern: str) -> bool:
    """True for a pattern that may be about a few layers: an expression or a role, which a class is not."""
    return pattern.startswith((_EXPRESSION, _ROLE))


def check_pattern(pattern: object, where: str) -> str:
    """The pattern, if it is one.

    Raises:
        RecipeError: not a string, empty, not a regular expression, or a role that there is not.
    """
    if not isinstance(pattern, str) or not pattern:
        raise RecipeError(f"{where}: a pattern must be a non-empty string, got {shown(pattern)}")
    if pattern.startswith(_EXPRESSION):
        try:
            _compiled(pattern.removeprefix(_EXPRESSION))
        except (ValueError, re.error, regex.error, OverflowError, RecursionError) as error:
            raise RecipeError(f"{where}: {shown(pattern)} is not a regular expression: {error}") from None
    if is_role(pattern) and pattern.removeprefix(_ROLE) not in ROLES:
        known = ", ".join(_ROLE + role for role in ROLES)
        raise RecipeError(f"{where}: {shown(pattern)} is no role of a layer; known: {known}")
    return pattern


class _Kept:
    """Compiled expressions: as many as the largest recipe can have, which all its layers ask for in turn."""

    MOST_CHARACTERS = 1_000_000
    patterns: ClassVar[dict[str, regex.Pattern[str]]] = {}
    characters = 0


def _compiled(expression: str) -> regex.Pattern[str]:
    found = _Kept.patterns.get(expression)
    if found is None:
        found = _compile(expression)
        if _Kept.characters + len(expression) > _Kept.MOST_CHARACTERS:
            _Kept.patterns.clear()
            _Kept.characters = 0
        _Kept.patterns[expression] = found
        _Kept.characters += len(expression)
    return found


def _compile(expression: str) -> regex.Pattern[str]:
    if len(expression) > MOST_CHARACTERS:
        raise ValueError(f"longer than {MOST_CHARACTERS:,} characters")
    counts = [max(map(int, re.findall(r"\d+", count)), default=1) for count in re.findall(r"\{[\d, ]*\}", expression)]
    if math.prod(max(count, 1) for count in counts) > MOST_REPEATS:
        raise ValueError(f"its counts repeat more than {MOST_REPEATS:,} times")
    re.compile(expression)  # what only `regex` knows, such as (?R), would be another language
    other = next((token["found"] for token in _OTHERWISE.finditer(expression) if token["found"]), None)
    if other is not None:
        raise ValueError(f"'{other}' here means one thing to Python and another to others; write \\{other}")
    return regex.compile(expression)


class _Meter:
    """Seconds beyond what is usual since matching last paused: many names and expressions are slow together, too."""

    spent, last = 0.0, -math.inf


def _fits(pattern: str, name: str) -> bool:
    if time.monotonic() - _Meter.last > SECONDS:
        _Meter.spent = 0.0
    begun = time.thread_time()  # not the clock: a machine that is busy, or a process that is stopped, is no slow match
    try:
        if _Meter.spent > SECONDS:
            raise TimeoutError
        return _compiled(pattern.removeprefix(_EXPRESSION)).fullmatch(name, timeout=SECONDS) is not None
    except TimeoutError:
        raise RecipeError(
            f"{shown(pattern)} takes too long on the layer {shown(name)}: write it without nested repetitions"
        ) from None
    finally:
        _Meter.last = time.monotonic()
        _Meter.spent = max(0.0, _Meter.spent + time.thread_time() - begun - USUAL)
