"""How `targets` and `ignore` name layers: an exact name, `re:` and a regular expression, or a class."""

from __future__ import annotations

from collections.abc import Iterable

from quant.errors import RecipeError
from quant.expressions import expression
from quant.text import VALUE, cut, shown

#: Steps that all expressions of a file may take to match one long name; usual ones take some hundred each.
MOST_WORK = 50_000


def matches(pattern: str, name: str, class_names: Iterable[str]) -> bool:
    """True where one pattern of a recipe or checkpoint names this layer.

    Args:
        pattern: "blocks.0.ffn.net.2" (that layer), "re:^blocks\\.0\\..*" (the expression must match the whole
            name, unlike llm-compressor, where a prefix is enough), or "Linear" (a class, as `class_names` has it).
        name: the layer's dotted name within its component.
        class_names: names of the layer's class and its bases.
    """
    if pattern.startswith("re:"):
        return expression(pattern[3:]).matches(name)
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
            expression(pattern[3:])
        except ValueError as error:
            raise RecipeError(f"{where}: '{cut(pattern, VALUE)}' is not a regular expression: {error}") from None
    return pattern


def check_work(patterns: Iterable[str], where: str) -> None:
    """Checks that all expressions of one file together are matched in a moment.

    Args:
        patterns: checked ones.
        where: the file, for the error.

    Raises:
        RecipeError: they are not; names the one that takes most.
    """
    work = {pattern: expression(pattern[3:]).work for pattern in patterns if pattern.startswith("re:")}
    if sum(work.values()) > MOST_WORK:
        worst = max(work, key=lambda pattern: work[pattern])
        raise RecipeError(
            f"{where}: regular expressions that take too much work to match, most of all '{cut(worst, VALUE)}'; "
            "write it with fewer repetitions within each other"
        )
