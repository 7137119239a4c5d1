"""A model, a recipe and what was found for every layer: what a checkpoint or a quantized copy is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from quant.calibration.block_solving import solve_by_block
from quant.calibration.calls import Calls
from quant.calibration.component import component_config
from quant.calibration.journal import Journal
from quant.calibration.kept_solutions import KeptSolutions
from quant.calibration.layer_part import pack_layer
from quant.calibration.layer_plan import LayerPlan, Planned, layer_plan, planned
from quant.calibration.provenance import calibration_record, layer_records, provenance, recorded_record
from quant.calibration.ranks import Ranks
from quant.calibration.recorded import Recorded
from quant.calibration.schedule import chosen_steps
from quant.calibration.solution import Solution
from quant.calibration.solving import Forward, needs_data, solve
from quant.errors import CalibrationError
from quant.formats.layer import LayerFormat
from quant.formats.tensors import tensor_layout
from quant.layers.checking import check_weight
from quant.layers.layer import QuantLayer
from quant.pipelines.rows import Row
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.timesteps import timestep_of
from quant.recipe import Recipe


@dataclass(frozen=True)
class Solved:
    """Everything that was decided and found.

    Attributes:
        recipe: the recipe.
        models: the components it was applied to, as they were given.
        plans: what becomes of every layer, by component.
        solutions: component -> layer -> what the algorithms found.
        rows: what was run for statistics; None where nothing was, or a forward loop.
        settings: how the pipeline was called for that.
        calls: the recording that statistics are from; None where there is none.
    """

    recipe: Recipe
    models: Mapping[str, nn.Module]
    plans: Mapping[str, list[LayerPlan]]
    solutions: Mapping[str, Mapping[str, Solution]]
    rows: list[Row] | None
    settings: GenerationSettings
    calls: Calls | None = None

    def quantized(self, component: str) -> list[Planned]:
        """The layers that are quantized."""
        return planned(self.plans[component])

    def layer_format(self, component: str, layer: Planned) -> LayerFormat:
        """What a quantized layer is stored as."""
        return self.solutions[component][layer.name].layer_format(layer.layer_format)

    def layer(self, component: str, layer: Planned) -> tuple[QuantLayer, float]:
        """A quantized layer as it runs, on its model's device, and its relative weight error."""
        module, kind = self.models[component].get_submodule(layer.name), layer.layer_kind
        weight = self._weight(component, layer)
        tensors, error = pack_layer(weight, layer, self.solutions[component][layer.name])
        return kind.filled(module, self.layer_format(component, layer), tensors, weight.device), error

    def stored_bytes(self, component: str, layer: Planned) -> int:
        """What a quantized layer's weight and all that belongs to it take, without its bias."""
        return self.bytes_as(component, layer, self.layer_format(component, layer))

    def bytes_as(self, component: str, layer: Planned, layer_format: LayerFormat) -> int:
        """What a layer's weight would take in another format."""
        dtype = self._weight(component, layer).dtype
        layout = tensor_layout(layer_format, layer.shape[0], layer.shape[1])
        return sum(math.prod(shape) * (of_dtype or dtype).itemsize for of_dtype, shape in layout.values())

    def original_bytes(self, component: str, layer: Planned) -> int:
        """What the weight takes in the model as it was given."""
        return self._weight(component, layer).nbytes

    def component_bytes(self, component: str) -> int:
        """What all tensors of a component take in the checkpoint."""
        given: int = sum(tensor.nbytes for tensor in self.models[component].state_dict().values())
        quantized = self.quantized(component)
        saved = sum(self.original_bytes(component, f) - self.stored_bytes(component, f) for f in quantized)
        return given - saved

    def _weight(self, component: str, layer: Planned) -> torch.Tensor:
        weight = self.models[component].get_submodule(layer.name).weight
        assert isinstance(weight, torch.Tensor)
        return weight

    def config(self, component: str, dtype: torch.dtype) -> dict[str, Any]:
        """The quantization_config; `dtype` is that of everything not packed."""
        model, plan = self.models[component], self.plans[component]
        return component_config(model, plan, self.solutions[component], dtype, self.recipe)

    def records(self, component: str, errors: Mapping[str, float]) -> list[dict[str, Any]]:
        """One mapping a layer, for the manifest and for tables."""
        return layer_records(self.plans[component], self.solutions[component], errors)

    def provenance(self, source: str) -> dict[str, Any]:
        """The head of a manifest. `source` names the model."""
        record = None
        if self.calls is not None:
            record = recorded_record(self.recipe, self.calls)
        elif needs_data(self.recipe):
            record = calibration_record(self.recipe, self.rows, self.settings)
        return {**provenance(self.recipe, source), "calibration": record}


def solve_models(
    models: Mapping[str, nn.Module],
    recipe: Recipe,
    forward: Forward | None,
    rows: list[Row] | None,
    settings: GenerationSettings,
    journal: Journal | None = None,
    kept: KeptSolutions | None = None,
    recorded: Mapping[str, Recorded] | None = None,
    schedule: Sequence[float | None] | None = None,
    progress: bool = False,
    ranks: Ranks | None = None,
) -> Solved:
    """Plans every layer, gathers the statistics that the recipe needs, and finds all scales.

    Args:
        models: components by name; with `recorded` on the meta device.
        recipe: the recipe.
        forward: runs the components over the calibration data.
        rows, settings: what it runs.
        journal, kept: where a killed run left off.
        recorded: instead of `forward`, the calls of each component, which are taken through it block by block.
        schedule: timesteps of the steps that are run, for a recipe that has `steps`.
        progress: a bar over blocks on stderr.
        ranks: the processes that share the recorded calls.

    Raises:
        QuantError: as `chosen_steps`, `layer_plan`, `check_weight`, `solve` and `solve_by_block`.
    """
    steps = chosen_steps(recipe, schedule)
    plans = {name: layer_plan(model, recipe, name) for name, model in models.items()}
    for name, plan in plans.items():
        if any(layer.group.steps is not None for layer in planned(plan)) and timestep_of(models[name]) is None:
            what = f"{name} is a {type(models[name]).__name__}"
            raise CalibrationError(f"{recipe.name}: steps: {what}, which is not called with a 'timestep'")
    for name, plan in plans.items():
        for layer in planned(plan):
            weight = layer.layer_kind.weight(models[name].get_submodule(layer.name))
            check_weight(weight, f"{name}.{layer.name}")
    if recorded is None:
        solutions = solve(models, plans, recipe, forward, journal, kept)
    else:
        solutions = solve_by_block(models, plans, recipe, recorded, kept, progress=progress, ranks=ranks)
    for name, plan in plans.items():
        for layer in planned(plan):
            if layer.group.steps is not None:
                found = solutions[name][layer.name]
                solutions[name][layer.name] = replace(found, steps=steps[layer.group.steps])
    return Solved(recipe, models, plans, solutions, rows, settings)
