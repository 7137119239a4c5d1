"""What a recipe makes of one block: the format of each of its Linears, and a recipe for that block alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import quant
from quant.algorithms.table import algorithm_of, in_short
from quant.errors import RecipeError
from quant.eval.bench.modules import skeleton
from quant.eval.bench.sizes import Model, layers
from quant.formats.layer import LayerFormat
from quant.recipe import Recipe
from quant.recipe_parts import ADAPT, Group


class Decided(NamedTuple):
    """What becomes of a block.

    Attributes:
        groups: the recipe's group of each Linear, by its name within the block; None where it stays in bf16.
        notes: what the recipe says of other blocks, and what of it is not looked at, in words.
    """

    groups: Mapping[str, Group | None]
    notes: tuple[str, ...]

    @property
    def layer_formats(self) -> dict[str, LayerFormat | None]:
        """The format of each Linear."""
        return {name: None if group is None else group.layer_format for name, group in self.groups.items()}


def decide(model: Model, recipe: Recipe) -> Decided:
    """What `recipe` makes of the middle block of `model`, as `quant.layer_groups` plans it for the whole model.

    Raises:
        RecipeError: the recipe does not fit the model, nothing in that block is quantized, or a layer gets a low-rank
            branch, which is not reckoned with.
    """
    planned = quant.layer_groups(skeleton(model), recipe)
    groups = {each.name: planned[model.prefix + each.name] for each in layers(model)}
    edge = round(recipe.keep_edge_blocks * model.layers)
    where = f"block {model.block} of {model.layers}"
    if not any(groups.values()):
        raise RecipeError(f"{recipe.name}: quantizes nothing in {where} of {model.name}")
    for group in groups.values():
        if group is not None and algorithm_of(group).branches:
            name = algorithm_of(group).name
            raise RecipeError(f"{recipe.name}: blocks are not measured or predicted with the branches of {name}")
    notes = [f"{recipe.name} keeps {edge} blocks at each end in bf16; this is {where}"] if edge else []
    notes += [
        f"{recipe.name}: groups[{index}] has no layer in {where}"
        for index, group in enumerate(recipe.groups)
        if not group.is_by_role and not any(_is_of(group, found) for found in groups.values())
    ]
    if recipe.keep_budget is not None:
        notes.append(
            f"{recipe.name}: its keep_budget is not looked at: what that keeps is found by measuring the whole model"
        )
    return Decided(groups, tuple(notes))


def for_block_alone(decided: Decided, recipe: Recipe, prefix: str) -> Recipe:
    """A recipe that does the same to a model whose only block of interest has layers called `prefix` and their name.

    What only decides which codes and zeros a weight gets is left out: it changes no time, and may take minutes.

    Args:
        decided: by `decide`.
        recipe: that it was decided by.
        prefix: such as "blocks.0.".
    """
    found = [group for group in decided.groups.values() if group is not None]
    distinct = [group for i, group in enumerate(found) if group not in found[:i]]
    distinct.sort(key=lambda group: next(i for i, of in enumerate(recipe.groups) if _is_of(of, group)))
    groups = tuple(
        replace(in_short(each), targets=tuple(prefix + name for name, its in decided.groups.items() if its == each))
        for each in distinct
    )
    return replace(recipe, groups=groups, components=None, ignore=(), keep_edge_blocks=0.0, keep_budget=None)


def _is_of(group: Group, found: Group | None) -> bool:
    """True where what a layer becomes is a recipe's group, in smaller groups of columns or as it stands."""
    if found is None or group.misfits != ADAPT:
        return found == group
    return replace(found, scheme=group.scheme, spelled=group.spelled) == group
