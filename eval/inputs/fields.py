"""Typed access to a parsed YAML mapping; every mistake names the file and the key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quant.errors import QuantError
from quant.fields import is_number
from quant.text import cut, shown


class Fields:
    """The keys of one mapping, each taken once; what is left at the end is unknown."""

    def __init__(self, body: object, source: str, prefix: str = "") -> None:
        if not isinstance(body, dict):
            where = f"'{prefix.rstrip('.')}' " if prefix else ""
            raise QuantError(f"{source}: {where}must be a mapping of keys to values")
        self.source = source
        self._body, self._prefix = body, prefix
        self._taken: set[str] = set()

    def wrong(self, key: str, rule: str, value: object) -> QuantError:
        """The error for a key whose value breaks a rule."""
        return QuantError(f"{self.source}: '{self._prefix}{key}' {rule}, got {shown(value)}")

    def raw(self, key: str) -> Any:
        """The value as it stands, not taken; None where there is none."""
        return self._body.get(key)

    def take_raw(self, key: str) -> Any:
        """The value as it stands; None where there is none."""
        self._taken.add(key)
        return self._body.get(key)

    def take_all(self) -> dict[str, Any]:
        """Everything, as keyword arguments."""
        self._taken.update(map(str, self._body))
        return {str(key): value for key, value in self._body.items()}

    def text(self, key: str) -> str:
        """A text that must be there."""
        value = self.take_raw(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, "must be a text", value)
        return value

    def optional_text(self, key: str) -> str | None:
        """A text, or None where there is none."""
        return None if self.take_raw(key) is None else self.text(key)

    def texts(self, key: str, least: int = 1) -> tuple[str, ...]:
        """A list of `least` or more texts."""
        value = self.take_raw(key)
        good = isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
        if not good or len(value) < least:
            raise self.wrong(key, "must be a list of texts", value)
        return tuple(value)

    def texts_by_name(self, key: str) -> dict[str, str]:
        """A mapping of texts; empty where there is none."""
        value = self.take_raw(key) or {}
        if not isinstance(value, dict) or not all(
            isinstance(part, str) and part for pair in value.items() for part in pair
        ):
            raise self.wrong(key, "must be a mapping of names to paths", value)
        return dict(value)

    def integer(self, key: str, default: int | None, least: int = 0) -> int | None:
        """A whole number of at least `least`."""
        value = self.take_raw(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.wrong(key, f"must be a whole number of at least {least}", value)
        return value

    def integers(self, key: str, default: tuple[int, ...], most: int) -> tuple[int, ...]:
        """A list of different whole numbers from 0 to `most`."""
        value = self.take_raw(key)
        if value is None:
            return default
        numbers = value if isinstance(value, list) else [value]
        good = all(isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= most for item in numbers)
        if not numbers or not good or len(set(numbers)) < len(numbers):
            raise self.wrong(key, f"must be different whole numbers from 0 to {most}", value)
        return tuple(numbers)

    def number(self, key: str) -> float | None:
        """A number above 0, or None where there is none."""
        value = self.take_raw(key)
        if value is None:
            return None
        if not is_number(value) or value <= 0:
            raise self.wrong(key, "must be a number above 0", value)
        return float(value)

    def boolean(self, key: str) -> bool | None:
        """True or false, or None where there is none."""
        value = self.take_raw(key)
        if not isinstance(value, bool | None):
            raise self.wrong(key, "must be true or false", value)
        return value

    def choice(self, key: str, known: Sequence[str]) -> str | None:
        """One of `known`, or None."""
        value = self.take_raw(key)
        if value is not None and value not in known:
            raise self.wrong(key, f"must be one of {', '.join(known)}", value)
        return None if value is None else str(value)

    def section(self, key: str) -> Fields:
        """A mapping inside this one; an empty one where there is none."""
        value = self.take_raw(key)
        return Fields({} if value is None else value, self.source, f"{self._prefix}{key}.")

    def refuse_unknown(self) -> None:
        """Raises QuantError for the first key that nobody took."""
        unknown = next((key for key in self._body if key not in self._taken), None)
        if unknown is not None:
            name, known = self._prefix + cut(str(unknown), 80), ", ".join(sorted(self._taken))
            raise QuantError(f"{self.source}: unknown key '{name}'; known: {known}")
