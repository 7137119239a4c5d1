"""The algorithms a recipe may name, what statistics each needs and which options it takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quant.algorithms.smoothquant import check_alpha
from quant.errors import RecipeError
from quant.recipe import Algorithm, Group, Recipe


@dataclass(frozen=True)
class Needs:
    """Statistics of a layer's input that calibration has to collect.

    Attributes:
        amax: one absolute maximum over all of the input.
        channel_amax: an absolute maximum per input channel, [K].
        rows: a sample of input rows, [R, K].
    """

    amax: bool = False
    channel_amax: bool = False
    rows: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(self.amax or other.amax, self.channel_amax or other.channel_amax, self.rows or other.rows)

    def __bool__(self) -> bool:
        return self.amax or self.channel_amax or self.rows


_OPTIONS: dict[str, tuple[str, ...]] = {"max": (), "smoothquant": ("alpha",)}


def needs_of(group: Group) -> Needs:
    """What a group's scheme and algorithm need; nothing for round-to-nearest with dynamic inputs."""
    needs = Needs(amax=group.scheme.has_static_input)
    if group.algorithm is not None and group.algorithm.name == "smoothquant":
        needs |= Needs(channel_amax=True, rows=True)
    return needs


def check_algorithms(recipe: Recipe) -> None:
    """Checks names and options of every group's algorithm.

    Raises:
        RecipeError: an unknown name, option or value, or an algorithm that would do nothing.
    """
    for i, group in enumerate(recipe.groups):
        if group.algorithm is not None:
            _check(group, group.algorithm, f"{recipe.name}: groups[{i}].algorithm")


def _check(group: Group, algorithm: Algorithm, where: str) -> None:
    allowed = _OPTIONS.get(algorithm.name)
    if allowed is None:
        raise RecipeError(f"{where}: unknown algorithm '{algorithm.name}'; known: {', '.join(_OPTIONS)}")
    options: Mapping[str, Any] = dict(algorithm.options)
    unknown = [key for key in options if key not in allowed]
    if unknown:
        known = ", ".join(allowed) or "none"
        raise RecipeError(f"{where}: unknown option '{unknown[0]}' of {algorithm.name}; known: {known}")
    if algorithm.name == "max" and not group.scheme.has_static_input:
        raise RecipeError(f"{where}: 'max' finds static input scales, and {group.scheme.name} has dynamic ones")
    if algorithm.name == "smoothquant":
        check_alpha(options.get("alpha", "search"), where)
