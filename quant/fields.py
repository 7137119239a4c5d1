"""Checks of what a YAML file holds, each with an error that says where and what would be right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from quant.errors import RecipeError

_T = TypeVar("_T")


def strict_loader() -> Any:
    """A safe YAML loader that refuses a key given twice, which plain YAML takes the last of in silence."""
    import yaml

    class StrictLoader(yaml.SafeLoader):
        pass

    def construct_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key_node.value}' is given twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return loader.construct_mapping(node, deep=True)

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
