"""Layers that stay in higher precision because they matter most, within a budget of bytes; the recipe then says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from quant.calibration.layer_plan import Kept, LayerPlan, Planned, planned
from quant.calibration.sensitivity import sensitivity_of
from quant.calibration.solution import Solution
from quant.calibration.solved import Solved
from quant.calibration.targets import fitted
from quant.checkpoint.sensitivity import Sensitivity, SensitivityUnit
from quant.errors import RecipeError
from quant.pipelines.rows import Row
from quant.recipe import Recipe
from quant.recipe_parts import ADAPT, REFUSE, Group, KeepBudget


def apply_budget(
    solved: Solved, pipe: Any, model: str, rows: Sequence[Row], progress: bool
) -> tuple[Solved, Sensitivity]:
    """Measures every layer and keeps the most sensitive, as the recipe's `keep_budget` says.

    Args:
        solved: of a recipe with a budget.
        pipe: whose components they are.
        model: its name.
        rows: those of the calibration; the first are run again.

    Returns:
        what is left to quantize, with a recipe that names the layers, and what was measured.
    """
    budget = solved.recipe.keep_budget
    assert budget is not None
    found = sensitivity_of(solved, pipe, model, rows[: budget.runs], steps=budget.steps, progress=progress)
    return keep_sensitive(solved, found, budget), found


def keep_sensitive(solved: Solved, found: Sensitivity, budget: KeepBudget) -> Solved:
    """The same with the chosen layers in higher precision, and a recipe that chooses them by name.

    Layers of one name, as both experts of Wan 2.2 have them, are kept together: a recipe cannot tell them apart.

    Args:
        solved: what was measured.
        found: by layer.
        budget: what it may cost.

    Raises:
        RecipeError: not even one layer fits the budget, or all do.
    """
    by_name: dict[str, list[SensitivityUnit]] = {}
    for unit in found.units:
        by_name.setdefault(unit.name, []).append(unit)
    for name, units in list(by_name.items()):
        if budget.scheme is not None and any(_in_budget(_layer(solved, unit), budget) is None for unit in units):
            del by_name[name]  # no groups of columns of the budget's scheme fit it
    extra = {name: sum(_growth(solved, unit, budget) for unit in units) for name, units in by_name.items()}
    allowed = round(budget.share * sum(solved.component_bytes(component) for component in solved.models))
    worth = {name: sum(unit.error**2 for unit in units) for name, units in by_name.items()}
    chosen = choose(worth, extra, allowed)
    if not chosen:
        least = min((cost for cost in extra.values() if cost > 0), default=0)
        raise RecipeError(
            f"keep budget: {budget.share:.2%} of the checkpoint are {allowed:,} bytes, and the smallest layer would "
            f"take {least:,} more; give a larger one"
        )
    if budget.scheme is None and len(chosen) == len(by_name):
        raise RecipeError(
            f"keep budget: {budget.share:.2%} of the checkpoint are enough to keep all {len(chosen)} layers as they "
            "are, and nothing would be left to quantize; give a smaller one"
        )
    return _with_kept(solved, {name: by_name[name] for name in chosen}, budget)


def choose(worth: Mapping[str, float], cost: Mapping[str, int], allowed: int) -> list[str]:
    """Names in the order of what a byte buys, each that still fits; a layer that costs nothing comes first.

    The greedy solution of a knapsack: where no item is a large part of the budget, as of hundreds of layers, it is
    within that part of the best one.

    Args:
        worth: squared errors that keeping a layer removes; errors of single layers are taken to add up.
        cost: bytes.
        allowed: bytes in all.
    """
    chosen, left = [], allowed
    for name in sorted(worth, key=lambda name: -worth[name] / max(cost[name], 1)):
        if worth[name] > 0 and cost[name] <= left:
            chosen.append(name)
            left -= max(cost[name], 0)
    return chosen


def _growth(solved: Solved, unit: SensitivityUnit, budget: KeepBudget) -> int:
    layer = _layer(solved, unit)
    group = _in_budget(layer, budget)
    if group is None:
        return unit.original_bytes - unit.stored_bytes
    wanted = replace(group.layer_format, kernel_size=layer.kernel_size)
    return solved.bytes_as(unit.component, layer, wanted) - unit.stored_bytes


def _group(names: tuple[str, ...], budget: KeepBudget) -> Group | None:
    """The group of a recipe that such layers are in; None where they stay as they are."""
    if budget.scheme is None:
        return None
    misfits = ADAPT if budget.scheme.has_groups else REFUSE
    return Group(names, budget.scheme, misfits=misfits, spelled=budget.scheme.name)


def _in_budget(layer: Planned, budget: KeepBudget) -> Group | None:
    """What a layer becomes; None where it stays as it is, or fits no group of the budget's scheme."""
    group = _group((layer.name,), budget)
    return None if group is None else fitted(group, *layer.shape, layer.kernel_size)[0]


def _layer(solved: Solved, unit: SensitivityUnit) -> Planned:
    return next(layer for layer in solved.quantized(unit.component) if layer.name == unit.name)


def _with_kept(solved: Solved, kept: Mapping[str, Sequence[SensitivityUnit]], budget: KeepBudget) -> Solved:
    group = _group(tuple(kept), budget)
    errors = {(unit.component, unit.name): unit.error for units in kept.values() for unit in units}
    plans: dict[str, list[LayerPlan]] = {}
    solutions: dict[str, dict[str, Solution]] = {}
    for component, plan in solved.plans.items():
        plans[component], solutions[component] = [], dict(solved.solutions[component])
        for layer in plan:
            error = errors.get((component, layer.name))
            if error is None or isinstance(layer, Kept):
                plans[component].append(layer)
                continue
            reason = f"sensitive: alone it moves the prediction by {error:.2%} (keep budget {budget.share:.2%})"
            if group is None:
                plans[component].append(Kept(layer.name, layer.kind, layer.shape, reason))
                del solutions[component][layer.name]
            else:
                becomes, note = fitted(group, *layer.shape)
                assert becomes is not None
                plans[component].append(replace(layer, group=becomes, taken_by=group, note=note))
                solutions[component][layer.name] = Solution(notes={"prediction_error": error})
    used = {id(layer.taken_by) for plan in plans.values() for layer in planned(plan)}
    groups = tuple(each for each in solved.recipe.groups if id(each) in used)
    summary = f"{solved.recipe.summary}; the {len(kept)} most sensitive layers {_becoming(budget)}"
    recipe = replace(solved.recipe, summary=summary.lstrip("; "), groups=groups, keep_budget=None)
    recipe = _naming(recipe, tuple(kept), group)
    return replace(solved, recipe=recipe, plans=plans, solutions=solutions)


def _becoming(budget: KeepBudget) -> str:
    what = "kept as they are" if budget.scheme is None else f"in {budget.scheme.name}"
    return f"{what}, for {budget.share:.2%} more bytes"


def _naming(recipe: Recipe, names: tuple[str, ...], group: Group | None) -> Recipe:
    if group is None:
        return replace(recipe, ignore=recipe.ignore + names)
    return replace(recipe, groups=(group, *recipe.groups))
