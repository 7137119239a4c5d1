"""From a model and a recipe to each layer's scales: statistics, then algorithms. The model is only read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from quant.algorithms.base import Rounded, Smoothing, Statistics
from quant.algorithms.input_hessian import InputHessian
from quant.algorithms.stages import compress_together, compresses, round_smoothed_together, rounds_smoothed
from quant.algorithms.table import algorithm_of, needs_of, options_of
from quant.calibration.input_scales import input_scale
from quant.calibration.journal import Journal
from quant.calibration.kept_solutions import KeptSolutions
from quant.calibration.layer_plan import LayerPlan, Planned
from quant.calibration.passes import InputGroup, Member, input_groups, passes
from quant.calibration.solution import Solution
from quant.calibration.statistics import collect
from quant.errors import CalibrationError
from quant.formats.table import CONVOLUTION, op_of
from quant.recipe import Recipe
from quant.recipe_parts import ORIGINAL
from quant.text import first_line

#: Runs all calibration prompts once; given a few words on which pass it is.
Forward = Callable[[str], object]


def needs_data(recipe: Recipe) -> bool:
    """True where a recipe cannot be applied without running the model."""
    return recipe.keep_budget is not None or recipe.has_steps or is_calibrated(recipe)


def is_calibrated(recipe: Recipe) -> bool:
    """True where an algorithm of a recipe needs its calibration's samples; budgets and steps are about fewer."""
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
    inputs = input_groups(plans)
    if forward is None and any(each.needs for each in inputs):
        raise CalibrationError(
            f"{recipe.name}: needs calibration data; give --prompts FILE or --inputs FILE (in Python prompts=, inputs= "
            "or forward_loop=)"
        )
    if recipe.calibration.inputs != ORIGINAL and forward is not None:
        raise CalibrationError(
            f"{recipe.name}: calibration.inputs: {recipe.calibration.inputs} takes recorded calls block by block; give "
            "--calls DIR (calls= in Python), which `quant record` makes"
        )
    holder, how = nn.ModuleDict(dict(models)), recipe.calibration
    parts = passes(inputs, how.hessian_gb)
    found = Found(models, kept)
    for part, members in enumerate(parts):
        left = [each for each in members if each not in found]
        wanted = {each.name: each.needs for each in left if each.needs}
        statistics: dict[str, Statistics] = {}
        if wanted and forward is not None:
            if journal is not None:
                journal.begin(str(part))
            statistics = collect(
                holder,
                wanted,
                partial(forward, f"pass {part + 1} of {len(parts)}, " if len(parts) > 1 else ""),
                rows=how.rows,
                seed=how.seed,
                journal=journal,
                timestep_weights=how.timestep_weights,
            )
        for each in left:
            # What was gathered goes as it is used.
            found.solve(each, statistics.pop(each.name, None))
    return found.by_layer(inputs)


class Found:
    """Solutions of inputs: those that a killed run has kept, and those that are solved here."""

    def __init__(self, models: Mapping[str, nn.Module], kept: KeptSolutions | None) -> None:
        """`models` have the weights; without `kept` solutions are in memory alone."""
        self._models, self._kept = models, kept
        self._solutions: dict[int, list[Solution]] = {}

    def __contains__(self, each: InputGroup) -> bool:
        if each.number not in self._solutions and self._kept is not None:
            earlier = self._kept.load(each.number, each.groups)
            if earlier is not None:
                self._solutions[each.number] = earlier
        return each.number in self._solutions

    def solve(self, each: InputGroup, seen: Statistics | None) -> None:
        """Finds what becomes of the layers that read an input.

        Raises:
            CalibrationError: names the layers, where an algorithm cannot do it; the disk refuses.
        """
        solved = _solve_named(self._models, each.members, seen)
        if self._kept is not None and each.needs:
            solved = self._kept.store(each.number, solved, each.groups)
        self._solutions[each.number] = solved

    def drop(self, each: InputGroup) -> None:
        """Forgets a solution, here and on disk."""
        self._solutions.pop(each.number, None)
        if self._kept is not None:
            self._kept.drop(each.number)

    def of(self, each: InputGroup) -> list[Solution]:
        """Solutions of an input's layers, in order."""
        return self._solutions[each.number]

    def by_layer(self, inputs: Sequence[InputGroup]) -> dict[str, dict[str, Solution]]:
        """All of them, by component and layer."""
        solutions: dict[str, dict[str, Solution]] = {component: {} for component in self._models}
        for each in inputs:
            for (component, layer), solution in zip(each.members, self.of(each), strict=True):
                solutions[component][layer.name] = solution
        return solutions


def _solve_named(models: Mapping[str, nn.Module], members: Sequence[Member], seen: Statistics | None) -> list[Solution]:
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


def _solve_group(models: Mapping[str, nn.Module], members: Sequence[Member], seen: Statistics | None) -> list[Solution]:
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
    made = _made(models, members, seen, factor)
    for i, (_, layer) in enumerate(members):
        scheme = layer.group.scheme
        smoothed = factor if _smooths(layer) else None
        scale = edges = None
        if scheme.has_static_input:
            assert seen is not None
            scale, edges = input_scale(layer.group, seen, smoothed)
        found, known = made.get(i), notes if _smooths(layer) else {}
        if found is None:
            solutions.append(Solution(scale, smoothed, known, bin_edges=edges))
        else:
            notes_of = {**found.notes, **known}
            solutions.append(Solution(scale, smoothed, notes_of, found.weight, found.grid, found.branch, edges))
    return solutions


def _made(
    models: Mapping[str, nn.Module], members: Sequence[Member], seen: Statistics | None, factor: torch.Tensor | None
) -> dict[int, Rounded]:
    """What became of weights under the Hessian of the input that they read, by place; of one group, together."""
    if seen is None or seen.hessian is None:
        return {}
    alike: list[list[int]] = []
    for i, (_, layer) in enumerate(members):
        if not needs_of(layer.group).hessian or not (compresses(layer.group) or rounds_smoothed(layer.group)):
            continue
        same = next((places for places in alike if members[places[0]][1].group == layer.group), None)
        if same is None:
            alike.append([i])
        else:
            same.append(i)
    made: dict[int, Rounded] = {}
    if not alike:
        return made
    component, first = members[alike[0][0]]
    at = _weight(models[component], first).device
    hessian = InputHessian(seen.hessian.to(at))
    for places in alike:
        group = members[places[0]][1].group
        weights = (_weight(models[members[i][0]], members[i][1]).to(at) for i in places)
        if compresses(group):
            found = compress_together(weights, group, hessian)
        else:
            found = round_smoothed_together(weights, group, hessian, factor)
        made.update({i: each.cpu() for i, each in zip(places, found, strict=True)})
    return made


def _smooths(layer: Planned) -> bool:
    return algorithm_of(layer.group).smooths


def _smoothing(models: Mapping[str, nn.Module], members: Sequence[Member], seen: Statistics | None) -> Smoothing | None:
    mine = [(component, layer) for component, layer in members if _smooths(layer)]
    if not mine:
        return None
    assert seen is not None
    seen = replace(seen, one_scale=any(op_of(layer.layer_format) == CONVOLUTION for _, layer in mine))
    weights = [_weight(models[component], layer) for component, layer in mine]
    group = mine[0][1].group
    schemes = [layer.group.scheme for _, layer in mine]
    _check_one_algorithm(mine)
    return algorithm_of(group).smooth(weights, schemes, seen, options_of(group))


def _check_one_algorithm(members: Sequence[Member]) -> None:
    """Layers that read one input share its factors, so one algorithm has to find them."""
    names = {layer.name: layer.group.algorithm.name for _, layer in members if layer.group.algorithm}
    if len(set(names.values())) > 1:
        named = ", ".join(f"'{layer}' by {name}" for layer, name in names.items())
        raise CalibrationError(f"layers that read one input must be smoothed by one algorithm: {named}")


def _weight(model: nn.Module, layer: Planned) -> torch.Tensor:
    """[N, K], on the device where the model runs: there a large layer is solved in seconds, and not in minutes."""
    kind = layer.layer_kind
    return kind.matrix(kind.weight(model.get_submodule(layer.name)).detach())
