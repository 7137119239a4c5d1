"""Values and other libraries' errors as short, harmless text, for messages about files that anyone may have made."""

from __future__ import annotations

import reprlib

#: Characters of a value that a message shows, and of a whole message.
VALUE, MESSAGE = 120, 2000

_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxfrozenset = _SHORT.maxdict = 4
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = VALUE


def shown(value: object, limit: int = VALUE) -> str:
    """The `repr` of a value for a message, cut at `limit` characters.

    Nested values are cut while they are written, so that a short file whose aliases expand to gigabytes makes a short
    text in no time.
    """
    try:
        text = _SHORT.repr(value)
    except ValueError:  # Python writes no whole number of more than 4,300 digits
        text = f"a {type(value).__name__} that is too long to write"
    return cut(text, limit)


def cut(text: str, limit: int) -> str:
    """The text, its middle left out where it is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    head = (limit - 3) * 2 // 3
    return f"{text[:head]}...{text[len(text) - (limit - 3 - head) :]}"


def printable(text: str) -> str:
    r"""The text with everything that would move a terminal's cursor or colour it written as an escape, such as \x1b."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def message(text: str) -> str:
    """One printable line of at most `MESSAGE` characters."""
    if len(text) > 2 * MESSAGE:  # what is between these is left out in any case
        text = text[:MESSAGE] + text[-MESSAGE:]
    return cut(printable(text), MESSAGE)


def first_line(error: BaseException) -> str:
    """What another library's exception says first, for a message of ours; its class where it says nothing or a key."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or isinstance(error, KeyError):
        return ": ".join([type(error).__name__, *lines[:1]])
    return lines[0]


def kind_and_line(error: BaseException) -> str:
    """The class of an exception, and what it says first."""
    kind, line = type(error).__name__, first_line(error)
    return line if line == kind or isinstance(error, KeyError) else f"{kind}: {line}"
