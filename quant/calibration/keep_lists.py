"""Why a layer stays in high precision: by the recipe's own word, or by a list of its model's family or of diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

from quant.families.base import MODULATION, Family
from quant.layers.kept_in_float32 import kept_in_float32
from quant.recipe import Recipe

#: The layers of adaLN. Their input is one row a sample, so keeping them costs memory and no time.
_ADALN = "modulation (adaLN)"


def on_keep_list(model: nn.Module, family: Family, name: str) -> str:
    """Return which keep list a layer is on; empty where it is on none. A recipe's group may name it in spite of that.

    The lists are the family's own, all that is outside of its repeated blocks, modulation, and diffusers' declarations.
    """
    for pattern, why in family.keep:
        if re.search(pattern, name):
            return f"{family.name}: {why}"
    if family.blocks is not None and family.block(name) is None:
        return f"outside the repeated blocks ({family.name})"
    return _ADALN if family.role(name) == MODULATION else _declared_by_diffusers(model, name)


def kept_as(listed: str) -> str:
    """Return the reason of a layer that stays as it is, since a keep list has it, with what would change that."""
    return f"{listed}: kept unless a group targets role:{MODULATION}" if listed == _ADALN else listed


def in_edge_block(family: Family, recipe: Recipe, name: str, depths: Mapping[str, int]) -> str:
    """Return which edge block a layer is in, that the recipe keeps; empty where it is in none.

    Args:
        family: of the model.
        recipe: has the share of the blocks that is kept.
        name: of the layer.
        depths: the number of blocks of each list, as `Family.block` names it.
    """
    place = family.block(name)
    if place is None:
        return ""
    index, depth = place[1], depths[place[0]]
    edge = edge_blocks(recipe, depth)
    return f"edge block {index} of {depth} (keep_edge_blocks)" if index < edge or index >= depth - edge else ""


def edge_blocks(recipe: Recipe, depth: int) -> int:
    """Return how many blocks at each end of so many stay in high precision."""
    return round(recipe.keep_edge_blocks * depth)


def _declared_by_diffusers(model: nn.Module, name: str) -> str:
    """The declaration of diffusers' model class that keeps a layer in high precision, read as diffusers reads it."""
    parts = name.split(".")
    # diffusers walks down from the root and skips all below a module whose name matches.
    walked = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
    for pattern in getattr(model, "_skip_layerwise_casting_patterns", None) or ():
        if any(re.search(pattern, step) for step in walked):
            return f"diffusers: _skip_layerwise_casting_patterns has '{pattern}'"
    for part in kept_in_float32(model):
        if part in parts:
            return f"diffusers: _keep_in_fp32_modules has '{part}'"
    return ""
