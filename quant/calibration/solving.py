"""From a model and a recipe to each layer's scales: statistics, then algorithms. The model is only read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from quant.algorithms.base import Needs, Rounded, Smoothing, Statistics
from quant.algorithms.hessian import in_unit
from quant.algorithms.stages import compress, compresses, round_smoothed
from quant.algorithms.table import algorithm_of, needs_of, options_of
from quant.calibration.journal import Journal
from quant.calibration.kept_solutions import KeptSolutions
from quant.calibration.layer_plan import LayerPlan, Planned, planned
from quant.calibration.solution import Solution
from quant.calibration.statistics import collect
from quant.errors import CalibrationError
from quant.formats.eight_bit import scale_from_amax, storage_dtype
from quant.recipe import Recipe
from quant.recipe_parts import Group
from quant.text import first_line

#: Runs all calibration prompts once; given a few words on which pass it is.
Forward = Callable[[str], object]

_Member = tuple[str, Planned]


def needs_data(recipe: Recipe) -> bool:
    """True where a recipe cannot be applied without running the model."""
    return recipe.keep_budget is not None or is_calibrated(recipe)


def is_calibrated(recipe: Recipe) -> bool:
    """True where an algorithm of a recipe needs its calibration's samples; a budget is measured on fewer."""
    return any(needs_of(group) for group in recipe.groups)


def solve(
    models: Mapping[str, nn.Module],
    plans: Mapping[str, list[LayerPlan]],
    recipe: Recipe,
    forward: Forward | None,
    journal: Journal | None = None,
    kept: KeptSolutions | None = None,
) -> dict[str, dict[str, Solution]]:
    """Scales for every quantized layer of every component.

    Args:
        models: components by name; calibrated together, in one run.
        plans: what the recipe does to each component's layers.
        recipe: the recipe, already checked.
        forward: runs the model over the calibration data, once for each pass; None where there is none.
        journal: where a killed run left off in a pass.
        kept: where solutions are kept; None keeps them in memory.

    Returns:
        component -> layer -> solution.

    Raises:
        CalibrationError: the recipe needs data and there is none, or the data shows no usable range.
    """
    groups = _input_groups(plans)
    needs = {leader: _need(members) for leader, members in groups.items()}
    if any(needs.values()) and forward is None:
        raise CalibrationError(
            f"{recipe.name}: needs calibration data; give --prompts FILE (prompts= or forward_loop= in Python)"
        )
    widths = {leader: members[0][1].shape[1] for leader, members in groups.items()}
    passes = windows(needs, widths, recipe.calibration.hessian_gb)
    holder = nn.ModuleDict(dict(models))
    numbers = {leader: number for number, leader in enumerate(groups)}
    found: dict[str, list[Solution]] = {}
    for part, leaders in enumerate(passes):
        for leader in leaders:
            earlier = None if kept is None else kept.load(numbers[leader], _recipe_groups(groups[leader]))
            if earlier is not None:
                found[leader] = earlier
        wanted = {leader: needs[leader] for leader in leaders if leader not in found}
        statistics: dict[str, Statistics] = {}
        if any(wanted.values()):
            assert forward is not None
            run = partial(forward, f"pass {part + 1} of {len(passes)}, " if len(passes) > 1 else "")
            if journal is not None:
                journal.begin(str(part))
            how = recipe.calibration
            statistics = collect(
                holder,
                wanted,
                run,
                rows=how.rows,
                seed=how.seed,
                journal=journal,
                timestep_weights=how.timestep_weights,
            )
        for leader in wanted:
            # What was gathered goes as it is used.
            solved = _solve_named(models, groups[leader], statistics.pop(leader, None))
            if kept is not None and needs[leader]:
                solved = kept.store(numbers[leader], solved, _recipe_groups(groups[leader]))
            found[leader] = solved
    solutions: dict[str, dict[str, Solution]] = {component: {} for component in models}
    for leader, members in groups.items():
        for (component, layer), solution in zip(members, found[leader], strict=True):
            solutions[component][layer.name] = _finished(solution, layer.group)
    return solutions


def _finished(solution: Solution, group: Group) -> Solution:
    """With the weight of a group that needs no data: made when it is written, for no model may be loaded at all."""
    if compresses(group) and not needs_of(group).hessian:
        return replace(solution, make=partial(_compressed, group))
    return solution


def _recipe_groups(members: list[_Member]) -> list[Group]:
    return [layer.group for _, layer in members]


def windows(needs: Mapping[str, Needs], widths: Mapping[str, int], hessian_gb: float) -> list[list[str]]:
    """Inputs in the order of the model, cut where the Hessians [K, K] of a part would take more than `hessian_gb`.

    Each part is one pass over the calibration data.

    Args:
        needs: by input.
        widths: K of each.
        hessian_gb: 10^9 bytes; an input that takes more has a pass of its own.
    """
    parts: list[list[str]] = [[]]
    used = 0.0
    for name, need in needs.items():
        size = widths[name] ** 2 * _HESSIAN_BYTES / 1e9 if need.hessian else 0.0
        if parts[-1] and size and used + size > hessian_gb:
            parts.append([])
            used = 0.0
        parts[-1].append(name)
        used += size
    return parts


def kept_bytes(plans: Mapping[str, list[LayerPlan]], recipe: Recipe) -> int:
    """What statistics and solutions take on disk at most while a run goes on, to within small vectors.

    Statistics of a pass are written anew while those before are still there; of solutions, codes are what counts.
    """
    groups = _input_groups(plans)
    needs = {leader: _need(members) for leader, members in groups.items()}
    widths = {leader: members[0][1].shape[1] for leader, members in groups.items()}

    def gathered(leader: str) -> int:
        need, k = needs[leader], widths[leader]
        return 8 * k * k * bool(need.hessian) + 4 * k * (recipe.calibration.rows * bool(need.rows) + 2)

    passes = windows(needs, widths, recipe.calibration.hessian_gb)
    largest = max((sum(gathered(leader) for leader in leaders if needs[leader]) for leaders in passes), default=0)
    codes = sum(
        layer.shape[0] * layer.shape[1] * (1 if layer.group.scheme.weights is not None else 4)
        for leader, members in groups.items()
        for _, layer in members
        if needs[leader].hessian
    )
    return 2 * largest + codes


#: Of an element of a Hessian: float64, and one more while it is solved.
_HESSIAN_BYTES = 16


def _input_groups(plans: Mapping[str, list[LayerPlan]]) -> dict[str, list[_Member]]:
    """Quantized layers by the input they read; keyed by the first of them, "component.layer"."""
    by_input: dict[str, list[_Member]] = {}
    for component, plan in plans.items():
        for layer in planned(plan):
            by_input.setdefault(f"{component}.{layer.input_group}", []).append((component, layer))
    return {f"{members[0][0]}.{members[0][1].name}": members for members in by_input.values()}


def _need(members: list[_Member]) -> Needs:
    needs = [needs_of(layer.group) for _, layer in members]
    merged = needs[0]
    for need in needs[1:]:
        merged |= need
    return merged


def _solve_named(models: Mapping[str, nn.Module], members: list[_Member], seen: Statistics | None) -> list[Solution]:
    """As `_solve_group`. Raises CalibrationError, which names the layers, where an algorithm cannot do it."""
    try:
        solutions = _solve_group(models, members, seen)
    except (ValueError, torch.linalg.LinAlgError) as error:  # type: ignore[attr-defined]
        names = ", ".join(f"'{component}.{layer.name}'" for component, layer in members)
        which = f"layer {names}" if len(members) == 1 else f"layers {names}, which read one input"
        raise CalibrationError(f"{which}: cannot be solved: {first_line(error)}") from error
    for (component, layer), solution in zip(members, solutions, strict=True):
        for name, value in solution.notes.items():
            if isinstance(value, float) and not math.isfinite(value):
                raise CalibrationError(
                    f"layer '{component}.{layer.name}': cannot be solved: its {name} is not finite; its inputs reach "
                    f"{_reach(seen)} and its weights {_weight(models[component], layer).abs().max().item():.3g}"
                )
    return solutions


def _reach(seen: Statistics | None) -> str:
    """The largest of a layer's inputs, in words, as far as it is known."""
    if seen is not None and seen.hessian is not None:
        return f"{seen.hessian.diagonal().max().sqrt().item():.3g} in the mean square"
    known = None if seen is None else (seen.amax if seen.amax is not None else seen.channel_amax)
    return "an unknown value" if known is None else f"{known.max().item():.3g}"


def _solve_group(models: Mapping[str, nn.Module], members: list[_Member], seen: Statistics | None) -> list[Solution]:
    """Solutions for layers that read one input, in order."""
    smoothing = _smoothing(models, members, seen)
    factor = smoothing.pre_quant_scale if smoothing is not None else None
    notes: dict[str, Any] = {}
    if smoothing is not None:
        notes = {
            "alpha": smoothing.alpha,
            "output_error": smoothing.error,
            "output_error_unsmoothed": smoothing.error_without,
        }
    solutions = []
    hessian = None if seen is None or seen.hessian is None else in_unit(seen.hessian)
    for component, layer in members:
        scheme = layer.group.scheme
        smoothed = factor if _smooths(layer) else None
        scale = None
        if scheme.has_static_input:
            assert seen is not None and seen.amax is not None
            inputs = scheme.input_activations
            assert inputs is not None
            reach = algorithm_of(layer.group).input_range(seen, inputs, options_of(layer.group))
            if smoothed is not None:
                assert seen.channel_amax is not None
                reach = (seen.channel_amax * smoothed).amax().reshape(1)
            scale = scale_from_amax(reach, storage_dtype(inputs))
        if compresses(layer.group) and needs_of(layer.group).hessian:
            assert hessian is not None
            weight = _weight(models[component], layer)
            made = compress(weight, layer.group, hessian.to(weight.device)).cpu()
            solutions.append(Solution(scale, None, made.notes, _made(made), made.grid, made.branch))
            continue
        rounded = None
        if _smooths(layer) and hessian is not None:
            weight = _weight(models[component], layer)
            at = weight.device
            rounded = round_smoothed(weight, layer.group, hessian.to(at), None if smoothed is None else smoothed.to(at))
        if rounded is not None:
            made = rounded.cpu()
            solutions.append(Solution(scale, smoothed, notes, _made(made), made.grid))
        else:
            solutions.append(Solution(scale, smoothed, notes if _smooths(layer) else {}))
    return solutions


def _made(made: Rounded) -> Callable[[torch.Tensor], Rounded]:
    return lambda original: made


def _compressed(group: Group, original: torch.Tensor) -> Rounded:
    return compress(original.cpu(), group, None)


def _smooths(layer: Planned) -> bool:
    return algorithm_of(layer.group).smooths


def _smoothing(models: Mapping[str, nn.Module], members: list[_Member], seen: Statistics | None) -> Smoothing | None:
    mine = [(component, layer) for component, layer in members if _smooths(layer)]
    if not mine:
        return None
    assert seen is not None
    weights = [_weight(models[component], layer) for component, layer in mine]
    group = mine[0][1].group
    schemes = [layer.group.scheme for _, layer in mine]
    _check_one_algorithm(mine)
    return algorithm_of(group).smooth(weights, schemes, seen, options_of(group))


def _check_one_algorithm(members: list[_Member]) -> None:
    """Layers that read one input share its factors, so one algorithm has to find them."""
    names = {layer.name: layer.group.algorithm.name for _, layer in members if layer.group.algorithm}
    if len(set(names.values())) > 1:
        said = ", ".join(f"'{layer}' by {name}" for layer, name in names.items())
        raise CalibrationError(f"layers that read one input must be smoothed by one algorithm: {said}")


def _weight(model: nn.Module, layer: Planned) -> torch.Tensor:
    """[N, K], on the device where the model runs: there a large layer is solved in seconds, and not in minutes."""
    kind = layer.layer_kind
    return kind.matrix(kind.weight(model.get_submodule(layer.name)).detach())
