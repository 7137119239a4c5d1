"""What a recipe makes of one block: the scheme of each of its Linears, and a recipe for that block alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from quant.errors import RecipeError
from quant.eval.speed.sizes import Layer, Model, layers
from quant.patterns import matches
from quant.recipe import Recipe
from quant.recipe_parts import Group
from quant.scheme import Scheme

#: Names by which a pattern may mean every `torch.nn.Linear`: its class and its bases.
_CLASSES = ("Linear", "Module", "object")


class Decided(NamedTuple):
    """What becomes of a block.

    Attributes:
        groups: the recipe's group of each Linear, by its name within the block; None where it stays in bf16.
        notes: what the recipe says of other blocks, in words.
    """

    groups: Mapping[str, Group | None]
    notes: tuple[str, ...]

    @property
    def schemes(self) -> dict[str, Scheme | None]:
        """The scheme of each Linear."""
        return {name: None if group is None else group.scheme for name, group in self.groups.items()}


def decide(model: Model, recipe: Recipe) -> Decided:
    """What `recipe` makes of the middle block of `model`.

    Raises:
        RecipeError: nothing in that block is quantized.
    """
    edge = round(recipe.keep_edge_blocks * model.layers)
    edged = not edge <= model.block < model.layers - edge
    groups = {each.name: None if edged else _group(model, recipe, each) for each in layers(model)}
    where = f"block {model.block} of {model.layers}"
    if not any(groups.values()):
        raise RecipeError(f"{recipe.name}: quantizes nothing in {where} of {model.name}")
    for group in groups.values():
        form = None if group is None else group.form
        if form is not None and (form.sparse or form.scheme.is_packed or form.scheme.name == "FP8_BLOCK"):
            raise RecipeError(f"{recipe.name}: blocks are measured and predicted in FP8 and INT8, not in {form.label}")
    used = {id(group) for group in groups.values()}
    notes = [f"{recipe.name} keeps {edge} blocks at each end in bf16; this is {where}"] if edge else []
    notes += [
        f"{recipe.name}: groups[{index}] has no layer in {where}"
        for index, group in enumerate(recipe.groups)
        if id(group) not in used
    ]
    return Decided(groups, tuple(notes))


def for_block_alone(decided: Decided, recipe: Recipe, prefix: str) -> Recipe:
    """A recipe that does the same to a model whose only block of interest has layers called `prefix` and their name.

    Args:
        decided: by `decide`.
        recipe: that it was decided by.
        prefix: such as "blocks.0.".
    """
    named = [
        (group, tuple(prefix + name for name, its in decided.groups.items() if its is group)) for group in recipe.groups
    ]
    groups = tuple(replace(group, targets=targets) for group, targets in named if targets)
    return replace(recipe, groups=groups, components=None, ignore=(), keep_edge_blocks=0.0)


def _group(model: Model, recipe: Recipe, layer: Layer) -> Group | None:
    name = model.prefix + layer.name
    if layer.kept or any(matches(pattern, name, _CLASSES) for pattern in recipe.ignore):
        return None
    return next((g for g in recipe.groups if any(matches(t, name, _CLASSES) for t in g.targets)), None)
