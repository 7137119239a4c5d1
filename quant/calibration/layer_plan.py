"""What a recipe does to each layer of a model, decided before anything is computed.

The first thing to change what happens to a layer, in this order: the recipe's `ignore`, the family's and
diffusers' keep lists, the recipe's edge blocks, then the recipe's groups. Every layer gets an answer. A Linear that is
more than weight and bias is kept last of all, so that it is the reason only where nothing else is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from quant.errors import RecipeError
from quant.families.base import Family
from quant.families.table import family_of
from quant.formats.layer import LayerFormat
from quant.formats.table import misfit
from quant.layers.kinds import class_names, kind_of, weight_readers
from quant.layers.layer_kind import LayerKind
from quant.patterns import matches
from quant.recipe import Recipe
from quant.recipe_parts import Group
from quant.text import VALUE, cut, shown


@dataclass(frozen=True)
class Kept:
    """A layer that stays as it is.

    Attributes:
        name: dotted name within its component.
        kind: class name, "Linear" or a convolution.
        shape: the weight's shape, [N, K] for a Linear.
        reason: why.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Planned:
    """A layer that is quantized.

    Attributes:
        name, kind: as of `Kept`.
        shape: N and K of its weight.
        group: the recipe's group that takes it.
        input_group: equal for layers that read one input.
        layer_kind: how it is a matmul.
        kernel_size: of a convolution; else ().
    """

    name: str
    kind: str
    shape: tuple[int, int]
    group: Group
    input_group: str
    layer_kind: LayerKind
    kernel_size: tuple[int, ...] = ()

    @property
    def layer_format(self) -> LayerFormat:
        """What it is stored as, before anything is known of smoothing."""
        return replace(self.group.layer_format, kernel_size=self.kernel_size)


LayerPlan = Kept | Planned


def planned(layers: Iterable[LayerPlan]) -> list[Planned]:
    """Those that are quantized."""
    return [layer for layer in layers if isinstance(layer, Planned)]


def layer_plan(model: nn.Module, recipe: Recipe, where: str = "model") -> list[LayerPlan]:
    """What becomes of every Linear and convolution, in the model's order.

    Args:
        model: may be on the meta device: only names, classes and shapes are read.
        recipe: the recipe.
        where: the component's name, for errors.

    Raises:
        RecipeError: a target or ignore pattern that names no layer of this model, edge blocks of which there is
            not one, a group that no layer is left for, or nothing to quantize at all.
    """
    family = family_of(model)
    # By every name: a layer that stands in two places has its tensors under both in a file.
    layers = {
        name: module for name, module in model.named_modules(remove_duplicate=False) if kind_of(module) is not None
    }
    _check_patterns(recipe, layers, where)
    depths: dict[str, int] = {}
    for place in map(family.block, layers):
        if place is not None:
            depths[place[0]] = max(depths.get(place[0], 0), place[1] + 1)
    _check_edge_blocks(recipe, depths, where)
    plan: list[LayerPlan] = []
    readers = weight_readers(model)
    first: dict[int, LayerPlan] = {}
    for name, module in layers.items():
        kind, layer_kind = type(module).__name__, kind_of(module)
        assert layer_kind is not None
        if id(module) in first:  # one layer has one plan, whatever a pattern says of its other name
            same = replace(first[id(module)], name=name)
            plan.append(replace(same, input_group=family.input_group(name)) if isinstance(same, Planned) else same)
            continue
        shape = tuple(module.weight.shape)
        group = _first_group(recipe, name, module)
        size, kernel_size = layer_kind.size(shape), layer_kind.kernel_size(module)
        reason = _kept(model, family, recipe, name, module, depths)
        reason = reason or layer_kind.own_way(model, name, module, readers)
        if not reason and group is not None:
            reason = _misfit(recipe, name, size, replace(group.layer_format, kernel_size=kernel_size), group.misfits)
        if group is None or reason:
            plan.append(Kept(name, kind, shape, reason or "no group of the recipe targets it"))
        else:
            plan.append(Planned(name, kind, size, group, family.input_group(name), layer_kind, kernel_size))
        first[id(module)] = plan[-1]
    for i, group in enumerate(recipe.groups):
        if not any(layer.group is group for layer in planned(plan)):
            raise RecipeError(f"{recipe.name}: groups[{i}]: {_unused(group, plan, layers)} in {where}")
    return plan


def layer_groups(model: nn.Module, recipe: Recipe) -> dict[str, Group | None]:
    """The recipe's group of every Linear and convolution of a model, by name; None where the layer is kept.

    The model may be on the meta device. Raises RecipeError as `layer_plan` does.
    """
    return {layer.name: layer.group if isinstance(layer, Planned) else None for layer in layer_plan(model, recipe)}


def _class_names(module: nn.Module) -> list[str]:
    return [cls.__name__ for cls in type(module).__mro__]


def _first_group(recipe: Recipe, name: str, module: nn.Module) -> Group | None:
    names = _class_names(module)
    return next((g for g in recipe.groups if any(matches(t, name, names) for t in g.targets)), None)


def _kept(
    model: nn.Module,
    family: Family,
    recipe: Recipe,
    name: str,
    module: nn.Module,
    depths: dict[str, int],
) -> str:
    """Why a layer stays in high precision; empty where it does not."""
    pattern = next((p for p in recipe.ignore if matches(p, name, _class_names(module))), None)
    if pattern is not None:
        return f"ignored by the recipe ('{cut(pattern, VALUE)}')"
    for pattern, why in family.keep:
        if re.search(pattern, name):
            return f"{family.name}: {why}"
    place = family.block(name)
    if place is None and family.blocks is not None:
        return f"outside the repeated blocks ({family.name})"
    declared = _declared_by_diffusers(model, name)
    if declared:
        return declared
    if place is not None:
        index, depth = place[1], depths[place[0]]
        edge = _edge(recipe, depth)
        if index < edge or index >= depth - edge:
            return f"edge block {index} of {depth} (keep_edge_blocks)"
    return ""


def _misfit(recipe: Recipe, name: str, shape: tuple[int, int], layer_format: LayerFormat, misfits: str) -> str:
    """Why a layer that would be quantized stays as it is, since its shape does not fit; empty where it fits.

    Raises:
        RecipeError: it does not fit and its group does not say to keep such layers.
    """
    reason = misfit(layer_format, *shape)
    if reason is None:
        return ""
    if misfits == "keep":
        return reason
    raise RecipeError(
        f"{recipe.name}: layer '{name}' {list(shape)}: {reason}; or say 'misfits: keep' in its group to leave such "
        f"layers as they are"
    )


def _declared_by_diffusers(model: nn.Module, name: str) -> str:
    """The declaration of diffusers' model class that keeps a layer in high precision, read as diffusers reads it."""
    parts = name.split(".")
    # diffusers walks down from the root and skips all below a module whose name matches.
    walked = [".".join(parts[: depth + 1]) for depth in range(len(parts))]
    for pattern in getattr(model, "_skip_layerwise_casting_patterns", None) or ():
        if any(re.search(pattern, step) for step in walked):
            return f"diffusers: _skip_layerwise_casting_patterns has '{pattern}'"
    for part in getattr(model, "_keep_in_fp32_modules", None) or ():
        if part in parts:
            return f"diffusers: _keep_in_fp32_modules has '{part}'"
    return ""


def _check_patterns(recipe: Recipe, layers: Mapping[str, nn.Module], where: str) -> None:
    """Every pattern of the recipe must name something: a typing error would leave layers out in silence."""
    named = [(f"groups[{i}].targets", t, group.targets) for i, group in enumerate(recipe.groups) for t in group.targets]
    for key, pattern, others in [*named, *(("ignore", p, ()) for p in recipe.ignore)]:
        if not any(matches(pattern, name, _class_names(module)) for name, module in layers.items()):
            # A class that models have or have not, next to others: a group that takes no layer is an error further on.
            if pattern in class_names() and len(others) > 1:
                continue
            example = next((name for name, module in layers.items() if kind_of(module) is not None), "none")
            what = f"{recipe.name}: {key}: '{cut(pattern, VALUE)}'"
            raise RecipeError(f"{what} matches no layer of {where}; a Linear there is '{example}'")


def _edge(recipe: Recipe, depth: int) -> int:
    """How many blocks at each end stay in high precision."""
    return round(recipe.keep_edge_blocks * depth)


def _check_edge_blocks(recipe: Recipe, depths: dict[str, int], where: str) -> None:
    """A share that comes to no block would protect nothing in silence."""
    if recipe.keep_edge_blocks and not any(_edge(recipe, depth) for depth in depths.values()):
        have = f"{max(depths.values())} blocks" if depths else "no repeated blocks"
        raise RecipeError(
            f"{recipe.name}: keep_edge_blocks: {recipe.keep_edge_blocks} keeps no block of {where}, which has {have}"
        )


def _unused(group: Group, plan: list[LayerPlan], layers: Mapping[str, nn.Module]) -> str:
    """Why a group got no layer, though its patterns match some."""
    mine = [each for each in plan if any(matches(t, each.name, _class_names(layers[each.name])) for t in group.targets)]
    kept = next((each for each in mine if isinstance(each, Kept)), None)
    if kept is not None:
        return f"every layer that {shown(list(group.targets))} matches is kept or taken ('{kept.name}': {kept.reason})"
    return f"an earlier group takes every layer that {shown(list(group.targets))} matches"
