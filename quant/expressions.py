"""Regular expressions on names of layers, matched in bounded time whatever the expression.

Patterns come out of files that anyone may have made, and Python's own matcher goes back and tries again: `(a+)+!` on
forty letters takes it 2^40 steps, and nothing stops it. Here no step is taken twice. The positions of a name that some
match can have reached are the bits of a whole number, and each part of an expression maps those reached before it to
those reached after it. Which match is found first, greedy or not, makes no difference to whether there is one.
Not linear-time libraries: RE2 is one more dependency and has no (?!...), `regex` unrolls ((a{999}){999}){999}.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

#: Characters of an expression, and parentheses within each other.
MOST_CHARACTERS, MOST_NESTED = 1000, 50
#: A long name of a layer, for estimates of work.
_LONG_NAME = 128


class Text:
    """A name while it is matched: where each character stands, and what parts of an expression found in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places = _places(name)
        self.rows: dict[tuple[int, int], int] = {}


@lru_cache(maxsize=4096)
def _places(name: str) -> dict[str, int]:
    """Character -> the positions where it stands."""
    found: dict[str, int] = {}
    for i, character in enumerate(name):
        found[character] = found.get(character, 0) | 1 << i
    return found


class Part(NamedTuple):
    """A part of an expression.

    Attributes:
        run: positions reached before it -> after it.
        once: steps that a long name takes once, and `each`, in every call.
        places: of a part that is one character, where in a text it matches.
    """

    run: Callable[[Text, int], int]
    once: int = 0
    each: int = 1
    places: Callable[[Text], int] | None = None


class Expression:
    """A regular expression in Python's syntax, without references to groups and atomic groups.

    Raises:
        ValueError: it is none, or one that is too long, too deeply nested, or not supported.
    """

    def __init__(self, pattern: str) -> None:
        if len(pattern) > MOST_CHARACTERS:
            raise ValueError(f"longer than {MOST_CHARACTERS:,} characters")
        try:
            parsed = _parser.parse(pattern)
        except re.error as error:
            raise ValueError(str(error)) from None
        except (OverflowError, RecursionError):
            raise ValueError("a count that is too large, or nested too deeply") from None
        self._part = _sequence(parsed, parsed.state.flags, 0)
        #: Steps that a match of a long name takes at most, some millions of them a second.
        self.work = self._part.once + self._part.each

    def matches(self, name: str) -> bool:
        """Does the expression match the whole name?"""
        return bool(self._part.run(Text(name), 1) >> len(name) & 1)


@lru_cache(maxsize=4096)
def expression(pattern: str) -> Expression:
    """The expression, made once."""
    return Expression(pattern)


def _sequence(parsed: Any, flags: int, depth: int) -> Part:
    if depth > MOST_NESTED:
        raise ValueError(f"more than {MOST_NESTED} parentheses within each other")
    parts = [_part(code, argument, flags, depth) for code, argument in parsed]
    if len(parts) == 1:
        return parts[0]
    runs = [part.run for part in parts]

    def run(text: Text, reached: int) -> int:
        for step in runs:
            if not reached:
                break
            reached = step(text, reached)
        return reached

    return Part(run, sum(part.once for part in parts), sum(part.each for part in parts))


def _part(code: Any, argument: Any, flags: int, depth: int) -> Part:
    if code is codes.BRANCH:
        return _branch([_sequence(each, flags, depth + 1) for each in argument[1]])
    if code is codes.SUBPATTERN:
        _, added, removed, inner = argument
        return _sequence(inner, (flags | added) & ~removed, depth + 1)
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
        least, most, inner = argument
        body = _sequence(inner, flags, depth + 1)
        return _repeat(body, int(least), None if most is codes.MAXREPEAT else int(most))
    if code in (codes.ASSERT, codes.ASSERT_NOT):
        return _assertion(argument[1], argument[0], code is codes.ASSERT, flags, depth)
    if code is codes.AT:
        return Part(lambda text, reached: reached & _anchor(str(argument), text.name, flags), each=_LONG_NAME)
    if code is codes.FAILURE:  # (?!), which nothing matches
        return Part(lambda text, reached: 0)
    if code in (codes.LITERAL, codes.NOT_LITERAL, codes.IN, codes.ANY):
        return _character(code, argument, flags)
    raise ValueError(f"{str(code).lower()} is not supported in names of layers")


def _branch(parts: list[Part]) -> Part:
    def run(text: Text, reached: int) -> int:
        found = 0
        for part in parts:
            found |= part.run(text, reached)
        return found

    return Part(run, sum(part.once for part in parts), sum(part.each for part in parts))


def _character(code: Any, argument: Any, flags: int) -> Part:
    items = argument if code is codes.IN else [(code, argument)]
    negated = items[0][0] is codes.NEGATE
    known: dict[str, bool] = {}

    def accepts(character: str) -> bool:
        if character not in known:
            forms = {character, character.lower(), character.upper()} if flags & re.IGNORECASE else {character}
            known[character] = any(_accepts(item, form, flags) for item in items for form in forms) != negated
        return known[character]

    def places(text: Text) -> int:
        if code is codes.LITERAL and not flags & re.IGNORECASE:
            return text.places.get(chr(argument), 0)
        return sum(where for character, where in text.places.items() if accepts(character))

    return Part(lambda text, reached: (reached & places(text)) << 1, places=places)


def _accepts(item: tuple[Any, Any], character: str, flags: int) -> bool:
    code, argument = item
    if code is codes.ANY:
        return character != "\n" or bool(flags & re.DOTALL)
    if code is codes.LITERAL:
        return bool(ord(character) == argument)
    if code is codes.NOT_LITERAL:
        return bool(ord(character) != argument)
    if code is codes.RANGE:
        return bool(argument[0] <= ord(character) <= argument[1])
    if code is codes.CATEGORY:
        kind = str(argument).removeprefix("CATEGORY_")
        letter = {"DIGIT": r"\d", "SPACE": r"\s", "WORD": r"\w"}[kind.removeprefix("NOT_")]
        return (re.match(letter, character, flags & re.ASCII) is not None) != kind.startswith("NOT_")
    return False  # NEGATE, which is read before


def _anchor(kind: str, name: str, flags: int) -> int:
    """The positions at which ^, $, \\A, \\Z, \\b or \\B match."""
    if kind == "AT_BEGINNING_STRING" or (kind == "AT_BEGINNING" and not flags & re.MULTILINE):
        return 1
    if kind == "AT_END_STRING":
        return 1 << len(name)
    symbol = {"AT_BEGINNING": "^", "AT_END": "$", "AT_BOUNDARY": r"\b", "AT_NON_BOUNDARY": r"\B"}[kind]
    return sum(1 << match.start() for match in re.finditer(symbol, name, flags & (re.MULTILINE | re.ASCII)))


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _row(part: Part, text: Text, start: int) -> int:
    """What a part reaches from one position, found once."""
    key = (id(part.run), start)
    found = text.rows.get(key)
    if found is None:
        found = text.rows[key] = part.run(text, 1 << start)
    return found


def _repeat(body: Part, least: int, most: int | None) -> Part:
    where = body.places
    if where is not None and least in (0, 1) and most is None:

        def sweep(text: Text, reached: int) -> int:
            """All of a run of matching characters at once: the sum carries through it."""
            places = where(text)
            if least:
                reached = (reached & places) << 1
            return (((reached & places) + places) ^ places) | reached

        return Part(sweep)

    def step(text: Text, reached: int) -> int:
        if where is not None:
            return body.run(text, reached)
        found = 0
        for start in _bits(reached):
            found |= _row(body, text, start)
        return found

    def run(text: Text, reached: int) -> int:
        # A match moves on at most as often as the name has characters; more rounds of the body move it nowhere.
        rounds = len(text.name) + 1
        for _ in range(min(least, rounds)):
            reached = step(text, reached)
        todo = reached
        for _ in range(rounds if most is None else min(most - least, rounds)):
            todo = step(text, todo)
            if most is None:
                todo &= ~reached
            if not todo:
                break
            reached |= todo
        return reached

    rounds = min(least, _LONG_NAME) + (1 if most is None else min(most - least, _LONG_NAME))
    if where is not None:
        return Part(run, each=rounds if most is not None else _LONG_NAME)
    return Part(run, body.once + _LONG_NAME * body.each, _LONG_NAME * rounds)


def _assertion(inner: Any, direction: int, wanted: bool, flags: int, depth: int) -> Part:
    body = _sequence(inner, flags, depth + 1)
    narrow, wide = inner.getwidth()
    if direction < 0 and narrow != wide:
        raise ValueError("look-behind requires fixed-width pattern")

    def holds(text: Text, position: int) -> bool:
        if direction > 0:
            return _row(body, text, position) != 0
        start = position - narrow
        return start >= 0 and bool(_row(body, text, start) >> position & 1)

    def run(text: Text, reached: int) -> int:
        return sum(1 << position for position in _bits(reached) if holds(text, position) == wanted)

    return Part(run, body.once + _LONG_NAME * body.each, _LONG_NAME)
