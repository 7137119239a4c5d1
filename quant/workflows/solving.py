"""From a model and a recipe to each layer's scales: statistics, then algorithms. The model is only read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from quant.algorithms.smoothquant import Smoothing, smooth
from quant.algorithms.table import Needs, needs_of
from quant.calibration.journal import Journal
from quant.calibration.statistics import Statistics, collect
from quant.errors import CalibrationError
from quant.models.fate import Fate
from quant.packing.eight_bit import scale_from_amax, storage_dtype
from quant.recipe import Recipe


@dataclass(frozen=True)
class Solution:
    """What the algorithms found for one layer.

    Attributes:
        input_scale: float32 [1] where the scheme's input is static.
        pre_quant_scale: float32 [K] where smoothing helps.
        notes: figures for the report, such as the smoothing strength.
    """

    input_scale: torch.Tensor | None
    pre_quant_scale: torch.Tensor | None
    notes: Mapping[str, Any]


def needs_data(recipe: Recipe) -> bool:
    """True where a recipe cannot be applied without running the model."""
    return any(needs_of(group) for group in recipe.groups)


def solve(
    models: Mapping[str, nn.Module],
    fates: Mapping[str, list[Fate]],
    recipe: Recipe,
    forward: Callable[[], object] | None,
    journal: Journal | None = None,
) -> dict[str, dict[str, Solution]]:
    """Scales for every quantized layer of every component.

    Args:
        models: components by name; calibrated together, in one run.
        fates: what the recipe does to each component's layers.
        recipe: the recipe, already checked.
        forward: runs the model over the calibration data; None where there is none.
        journal: where a killed run left off.

    Returns:
        component -> layer -> solution.

    Raises:
        CalibrationError: the recipe needs data and there is none, or the data shows no usable range.
    """
    groups = _input_groups(fates)
    needs = {leader: _need(members) for leader, members in groups.items()}
    statistics: dict[str, Statistics] = {}
    if any(needs.values()):
        if forward is None:
            raise CalibrationError(
                f"{recipe.name}: needs calibration data; give --prompts FILE (prompts= or forward_loop= in Python)"
            )
        holder = nn.ModuleDict(dict(models))
        statistics = collect(
            holder, needs, forward, rows=recipe.calibration.rows, seed=recipe.calibration.seed, journal=journal
        )
    solutions: dict[str, dict[str, Solution]] = {component: {} for component in models}
    for leader, members in groups.items():
        for (component, fate), solution in zip(
            members, _solve_group(models, members, statistics.get(leader)), strict=True
        ):
            solutions[component][fate.name] = solution
    return solutions


_Member = tuple[str, Fate]


def _input_groups(fates: Mapping[str, list[Fate]]) -> dict[str, list[_Member]]:
    """Quantized layers by the input they read; keyed by the first of them, "component.layer"."""
    by_input: dict[str, list[_Member]] = {}
    for component, layers in fates.items():
        for fate in layers:
            if fate.group is not None:
                by_input.setdefault(f"{component}.{fate.input_group}", []).append((component, fate))
    return {f"{members[0][0]}.{members[0][1].name}": members for members in by_input.values()}


def _need(members: list[_Member]) -> Needs:
    needs = [needs_of(fate.group) for _, fate in members if fate.group is not None]
    merged = needs[0]
    for need in needs[1:]:
        merged |= need
    return merged


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
    for _, fate in members:
        assert fate.group is not None
        scheme = fate.group.scheme
        smoothed = factor if _smooths(fate) else None
        scale = None
        if scheme.has_static_input:
            assert seen is not None and seen.amax is not None
            reach = seen.amax
            if smoothed is not None:
                assert seen.channel_amax is not None
                reach = (seen.channel_amax * smoothed).amax().reshape(1)
            scale = scale_from_amax(reach, storage_dtype(scheme.input_activations))
        solutions.append(Solution(scale, smoothed, notes if _smooths(fate) else {}))
    return solutions


def _smooths(fate: Fate) -> bool:
    group = fate.group
    return group is not None and group.algorithm is not None and group.algorithm.name == "smoothquant"


def _smoothing(models: Mapping[str, nn.Module], members: list[_Member], seen: Statistics | None) -> Smoothing | None:
    mine = [(component, fate) for component, fate in members if _smooths(fate)]
    if not mine:
        return None
    assert seen is not None and seen.rows is not None and seen.channel_amax is not None
    weights = [_weight(models[component], fate.name) for component, fate in mine]
    group = mine[0][1].group
    assert group is not None and group.algorithm is not None
    alpha = dict(group.algorithm.options).get("alpha", "search")
    schemes = [fate.group.scheme for _, fate in mine if fate.group is not None]
    return smooth(weights, schemes, seen.rows, seen.channel_amax, alpha)


def _weight(model: nn.Module, layer: str) -> torch.Tensor:
    linear = model.get_submodule(layer)
    assert isinstance(linear, nn.Linear)
    return linear.weight.detach().cpu()
