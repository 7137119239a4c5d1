"""What the quantization of one layer, one block or one step alone does to the prediction, of layers that are solved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import nn

from quant.calibration.solved import Solved
from quant.checkpoint.sensitivity import ALL_LAYERS, Sensitivity, SensitivityUnit
from quant.errors import CalibrationError
from quant.families.table import family_of
from quant.pipelines.rows import Row
from quant.pipelines.running import run_rows, step_count
from quant.pipelines.timesteps import timestep_of
from quant.pipelines.watching import Errors, Replacements, Steps, evenly, watching

#: What is quantized alone: one layer, all layers of one block, or all layers at one step.
LAYER, BLOCK, STEP = "layer", "block", "step"
UNITS = (LAYER, BLOCK, STEP)
#: Of the schedule, where layers or blocks are measured and nobody says how many.
MEASURED_STEPS = 5


def check_measurable(models: Mapping[str, nn.Module]) -> None:
    """Before a long calibration rather than after it.

    Raises:
        CalibrationError: a component that is not called with timesteps.
    """
    for model in models.values():
        if timestep_of(model) is None:
            raise CalibrationError(
                f"{type(model).__name__} is not called with a 'timestep', so its steps are not known"
            )


def sensitivity_of(
    solved: Solved,
    pipe: Any,
    model: str,
    rows: Sequence[Row],
    *,
    by: str = LAYER,
    steps: int | None = None,
    progress: bool,
) -> Sensitivity:
    """As `measure_sensitivity`, of layers that are solved already.

    Args:
        solved: of components of `pipe`.
        pipe: on the device where it runs.
        model: its name.
        rows: inputs, all of which are run.
        by: one of `UNITS`.
        steps: how many are measured; None for `MEASURED_STEPS`, and for every one where it is by step.
    """
    from tqdm import tqdm

    settings = solved.settings
    whole = step_count(pipe, settings)
    counter = Steps(evenly(whole, (whole if by == STEP else MEASURED_STEPS) if steps is None else steps))
    units = {component: _units(solved, component, by) for component in solved.models}
    found: dict[str, dict[str, dict[int, Errors]]] = {component: {} for component in solved.models}
    with ExitStack() as stack, torch.no_grad():
        total = len(rows) * len(counter.chosen)
        desc = "steps one by one" if by == STEP else f"{sum(map(len, units.values()))} {by}s one by one"
        bar = stack.enter_context(tqdm(total=total, desc=desc, unit="step", disable=not progress))
        for component, module in solved.models.items():
            replacements = {name: _replacements(solved, component, layers) for name, layers in units[component].items()}
            stack.enter_context(
                watching(module, replacements, counter, found[component], lambda: bar.update(counter.begun - bar.n))
            )
        seed = solved.recipe.calibration.seed
        for i, row in enumerate(rows):
            counter.new_prompt()
            run_rows(pipe, [row], settings, seed=seed + i, progress=False)
    numbers = tuple(sorted(counter.timesteps))
    return Sensitivity(
        recipe=solved.recipe.name,
        recipe_sha256=solved.recipe.sha256,
        model=model,
        prompts=tuple(row.text for row in rows),
        steps=numbers,
        timesteps=tuple(counter.timesteps[number] for number in numbers),
        units=tuple(
            _unit(solved, component, name, layers, found[component].get(name, {}), numbers)
            for component, parts in units.items()
            for name, layers in parts.items()
        ),
    )


def _units(solved: Solved, component: str, by: str) -> dict[str, list[str]]:
    """Quantized layers by the unit they are measured in; a layer outside of all blocks is one."""
    if by == STEP:
        return {ALL_LAYERS: [layer.name for layer in solved.quantized(component)]}
    family = family_of(solved.models[component])
    units: dict[str, list[str]] = {}
    for layer in solved.quantized(component):
        place = family.block(layer.name) if by == BLOCK else None
        name = layer.name if place is None else f"{place[0]}{place[1]}"
        units.setdefault(name, []).append(layer.name)
    return units


def _replacements(solved: Solved, component: str, layers: Sequence[str]) -> Replacements:
    planned = {layer.name: layer for layer in solved.quantized(component)}
    made: dict[str, nn.Module] = {name: solved.layer(component, planned[name])[0] for name in layers}
    return made


def _unit(
    solved: Solved,
    component: str,
    name: str,
    layers: Sequence[str],
    errors: Mapping[int, Errors],
    steps: Sequence[int],
) -> SensitivityUnit:
    total = Errors(sum(each.error for each in errors.values()), sum(each.power for each in errors.values()))
    planned = [layer for layer in solved.quantized(component) if layer.name in layers]
    schemes = dict.fromkeys(solved.layer_format(component, layer).label for layer in planned)
    return SensitivityUnit(
        component=component,
        name=name,
        layers=tuple(layers),
        scheme=", ".join(schemes),
        error=total.relative,
        by_step=tuple(errors[step].relative if step in errors else 0.0 for step in steps),
        stored_bytes=sum(solved.stored_bytes(component, layer) for layer in planned),
        original_bytes=sum(solved.original_bytes(component, layer) for layer in planned),
    )
