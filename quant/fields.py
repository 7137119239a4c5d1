"""Checks of what a YAML file holds, each with an error that says where and what would be right."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NoReturn, TypeVar

from quant.errors import QuantError, RecipeError
from quant.text import cut, first_line, shown

_T = TypeVar("_T")


#: Characters of a YAML file, and nodes in it, one used by several aliases counted each time: a recipe has some hundred.
MOST_CHARACTERS, MOST_NODES = 1_000_000, 50_000
_DIGITS = 100
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
#: What YAML 1.1 takes for numbers and no reader expects: 1:30 is 90, and 010 is 8.
_ODD_NUMBER = re.compile(r"[-+]?([0-9_]+:[0-9_:.]+|0[0-9_]+)")
#: Kinds of values that YAML has and no file of ours: a date is a word here.
_UNUSED = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("timestamp", "binary", "set", "omap", "pairs"))


def load_yaml(text: str, where: str, error: type[QuantError] = RecipeError) -> Any:
    """What a YAML text holds: mappings with words as keys, lists, text, numbers, true and false.

    Stricter than YAML: a key is given once and is a word, nothing holds itself, and aliases do not expand without
    bound, so that the time and memory this takes follow the length of the text.

    Args:
        text: the YAML.
        where: the file, or what else names the text in errors.
        error: what is raised.

    Raises:
        QuantError: of the class `error`, with the line: anything that is not such YAML.
    """
    import yaml

    if len(text) > MOST_CHARACTERS:
        raise error(f"{where}: not read: longer than {MOST_CHARACTERS:,} characters")
    loader: Any = None
    try:
        loader = _strict_loader()(text)
        return loader.get_single_data()
    except yaml.YAMLError as cause:
        mark, problem = getattr(cause, "problem_mark", None), getattr(cause, "problem", None) or first_line(cause)
        line = None if mark is None else mark.line
    except RecursionError:
        line, problem = loader.line, "nested too deeply"
    except ValueError as cause:  # an escape such as "\U00110000", which is no character
        line, problem = loader.line, first_line(cause)
    place = where if line is None else f"{where}: line {line + 1}"
    raise error(f"{place}: not valid YAML: {cut(problem, 300)}")


@cache
def _strict_loader() -> Any:
    """The loader of `load_yaml`; made on first use, because importing yaml takes time."""
    import yaml

    class StrictLoader(yaml.SafeLoader):
        nodes = 0

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            self.nodes += 1
            if self.nodes > MOST_NODES:
                refuse(f"more than {MOST_NODES:,} values", self.get_mark())
            return super().compose_node(parent, index)

        def get_single_node(self) -> yaml.Node | None:
            node = super().get_single_node()
            if node is not None:
                check(node, {})
            return node

        def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep)
            except (ValueError, LookupError):
                refuse(f"{shown(node.value)} is no {node.tag.rpartition(':')[2]}", node.start_mark)

    def refuse(problem: str, mark: yaml.Mark) -> NoReturn:
        raise yaml.constructor.ConstructorError(None, None, problem, mark)

    def check(node: yaml.Node, sizes: dict[int, int | None]) -> int:
        """How many nodes this one is, with its aliases expanded; refuses too many, and numbers too long to convert."""
        if isinstance(node, yaml.ScalarNode):
            if node.tag in _NUMBERS and len(node.value) > _DIGITS:
                refuse(f"a number of {len(node.value):,} characters", node.start_mark)
            if node.tag in _NUMBERS and _ODD_NUMBER.fullmatch(node.value):
                refuse(f"YAML reads {node.value} in base 60 or 8; write a plain number or quotes", node.start_mark)
            if any("\ud800" <= character <= "\udfff" for character in node.value):
                refuse("text with half a character (a lone surrogate)", node.start_mark)
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = None
            parts = (part for item in node.value for part in (item if isinstance(item, tuple) else (item,)))
            sizes[id(node)] = 1 + sum(check(part, sizes) for part in parts)
        size = sizes[id(node)]
        if size is None:
            refuse("an alias holds itself", node.start_mark)
        if size > MOST_NODES:
            refuse(f"aliases expand to more than {MOST_NODES:,} values", node.start_mark)
        return size

    def construct_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        if not isinstance(node, yaml.MappingNode):
            refuse("a mapping was expected", node.start_mark)
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                refuse("a key must be a word", key_node.start_mark)
            if key_node.tag not in ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"):
                refuse(f"key {key_node.value} is no word to YAML; put it in quotes", key_node.start_mark)
            if key_node.value in seen:
                refuse(f"key '{key_node.value}' is given twice", key_node.start_mark)
            seen.add(key_node.value)
        return loader.construct_mapping(node, deep=True)

    StrictLoader.yaml_constructors = {
        tag: construct for tag, construct in yaml.SafeLoader.yaml_constructors.items() if tag not in _UNUSED
    }
    StrictLoader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag not in _UNUSED]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, construct_mapping)
    return StrictLoader


def mapping(value: object, where: str, keys: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{where}: must be a mapping with the keys {', '.join(keys)}")
    unknown = [key for key in value if key not in keys]
    if unknown:
        raise RecipeError(f"{where}: unknown key '{unknown[0]}'; known: {', '.join(keys)}")
    return value


def typed(value: object, kind: type[_T], where: str) -> _T:
    if not isinstance(value, kind):
        raise RecipeError(f"{where}: must be a {kind.__name__}, got {value!r}")
    return value


def strings(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise RecipeError(f"{where}: must be a non-empty list of names, got {value!r}")
    return tuple(value)


def check_count(number: object, least: int, where: str) -> None:
    if isinstance(number, bool) or not isinstance(number, int) or number < least:
        raise RecipeError(f"{where}: must be a whole number of at least {least}, got {number!r}")
