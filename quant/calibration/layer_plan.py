"""What a recipe does to each layer of a model, decided before anything is computed.

The first thing to change what happens to a layer, in this order: the recipe's `ignore`; keep lists, where no group
names the layer on purpose; the recipe's edge blocks; then the first of the recipe's groups that takes it. Every layer
gets an answer. A Linear that is more than weight and bias is kept last of all, so that it is the reason only where
nothing else is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import nn

from quant.calibration.keep_lists import edge_blocks, in_edge_block, on_keep_list
from quant.calibration.targets import Taken, Targets
from quant.errors import RecipeError
from quant.families.table import family_of
from quant.formats.layer import LayerFormat
from quant.layers.kinds import quantizable, weight_readers
from quant.layers.layer_kind import LayerKind
from quant.recipe import Recipe
from quant.recipe_parts import Group
from quant.text import shown


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
        group: what it becomes: the group that takes it, with smaller groups of columns where its own do not fit.
        input_group: equal for layers that read one input.
        layer_kind: how it is a matmul.
        taken_by: the recipe's group.
        kernel_size: of a convolution; else ().
        note: what is otherwise than the recipe and the keep lists let expect, and why; empty where nothing is.
    """

    name: str
    kind: str
    shape: tuple[int, int]
    group: Group
    input_group: str
    layer_kind: LayerKind
    taken_by: Group
    kernel_size: tuple[int, ...] = ()
    note: str = ""

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
    kinds = quantizable(model)
    layers = {name: module for name, (_, module) in kinds.items()}
    targets = Targets(recipe, family, layers, {name: on_keep_list(model, family, name) for name in layers})
    targets.check(where)
    depths: dict[str, int] = {}
    for place in map(family.block, layers):
        if place is not None:
            depths[place[0]] = max(depths.get(place[0], 0), place[1] + 1)
    _check_edge_blocks(recipe, depths, where)
    plan: list[LayerPlan] = []
    readers = weight_readers(model)
    first: dict[int, LayerPlan] = {}
    for name, module in layers.items():
        if id(module) in first:  # one layer has one plan, whatever a pattern says of its other name
            same = replace(first[id(module)], name=name)
            plan.append(replace(same, input_group=family.input_group(name)) if isinstance(same, Planned) else same)
            continue
        kind = kinds[name][0]
        shape = tuple(kind.weight(module).shape)
        size, kernel_size = kind.size(shape), kind.kernel_size(module)
        found: str | Taken = targets.kept(name) or in_edge_block(family, recipe, name, depths)
        found = found or kind.own_way(model, name, module, readers)
        found = found or targets.take(name, *size, kernel_size)
        cls, read = type(module).__name__, family.input_group(name)
        if isinstance(found, Taken):
            plan.append(Planned(name, cls, size, found.group, read, kind, found.taken_by, kernel_size, found.note))
        else:
            plan.append(Kept(name, cls, shape, found))
        first[id(module)] = plan[-1]
    _check_groups(recipe, targets, plan, where)
    return plan


def layer_groups(model: nn.Module, recipe: Recipe) -> dict[str, Group | None]:
    """The recipe's group of every Linear and convolution of a model, by name; None where the layer is kept.

    The model may be on the meta device. Raises RecipeError as `layer_plan` does.
    """
    return {layer.name: layer.group if isinstance(layer, Planned) else None for layer in layer_plan(model, recipe)}


def _check_edge_blocks(recipe: Recipe, depths: Mapping[str, int], where: str) -> None:
    """A share that comes to no block would protect nothing in silence."""
    if recipe.keep_edge_blocks and not any(edge_blocks(recipe, depth) for depth in depths.values()):
        have = f"{max(depths.values())} blocks" if depths else "no repeated blocks"
        raise RecipeError(
            f"{recipe.name}: keep_edge_blocks: {recipe.keep_edge_blocks} keeps no block of {where}, which has {have}"
        )


def _check_groups(recipe: Recipe, targets: Targets, plan: list[LayerPlan], where: str) -> None:
    """Every group must take a layer, unless it is for a role that no layer left for it has; and one group at least."""
    taking = {id(layer.taken_by) for layer in planned(plan)}
    earlier: set[int] = set()
    for i, group in enumerate(recipe.groups):
        named = targets.named_by(group)
        mine = [layer for layer in plan if layer.name in named]
        taken = [layer for layer in planned(mine) if id(layer.taken_by) in earlier]
        if id(group) not in taking and (taken or not group.is_by_role):
            raise RecipeError(f"{recipe.name}: groups[{i}]: {_unused(group, mine, taken)} in {where}")
        earlier.add(id(group))
    if not taking:
        roles = shown([target for group in recipe.groups for target in group.targets])
        raise RecipeError(f"{recipe.name}: quantizes nothing in {where}: it has no layer for {roles} to take")


def _unused(group: Group, mine: list[LayerPlan], taken: list[Planned]) -> str:
    """Why a group got none of the layers that its patterns match, some of which an earlier group took."""
    what = f"every layer that {shown(list(group.targets))} matches"
    kept = next((layer for layer in mine if isinstance(layer, Kept)), None)
    if kept is not None:
        return f"{what} is kept or taken ('{kept.name}': {kept.reason})"
    if taken:
        return f"an earlier group takes {what}"
    left = next(iter(planned(mine)), None)
    if left is None:
        return f"{shown(list(group.targets))} matches no layer"
    return f"{what} is left to another ('{left.name}': {left.note})"
