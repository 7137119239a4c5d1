"""How `targets` and `ignore` name layers: an exact name, `re:` and a regular expression, or a class."""

from __future__ import annotations

import re
from collections.abc import Iterable

from quant.errors import RecipeError


def matches(pattern: str, name: str, class_names: Iterable[str]) -> bool:
    """True where one pattern of a recipe or checkpoint names this layer.

    Args:
        pattern: "blocks.0.ffn.net.2" (that layer), "re:^blocks\\.0\\..*" (the expression must match the whole
            name, unlike llm-compressor, where a prefix is enough), or "Linear" (a class, as `class_names` has it).
        name: the layer's dotted name within its component.
        class_names: names of the layer's class and its bases.
    """
    if pattern.startswith("re:"):
        return re.fullmatch(pattern[3:], name) is not None
    return pattern == name or pattern in class_names


def check_pattern(pattern: object, where: str) -> str:
    """The pattern, if it is one.

    Raises:
        RecipeError: not a string, empty, or not a regular expression.
    """
    if not isinstance(pattern, str) or not pattern:
        raise RecipeError(f"{where}: a pattern must be a non-empty string, got {pattern!r}")
    if pattern.startswith("re:"):
        try:
            re.compile(pattern[3:])
        except (re.error, OverflowError, RecursionError) as error:
            raise RecipeError(f"{where}: '{pattern}' is not a regular expression: {error}") from None
    return pattern
