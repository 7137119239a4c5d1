"""A model, a recipe and what was found for every layer: what a checkpoint or a quantized copy is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from quant.algorithms.table import check_algorithms
from quant.calibration.journal import Journal
from quant.models.fate import Fate, decide
from quant.models.generation import GenerationSettings
from quant.recipe import Recipe
from quant.workflows.component import component_config
from quant.workflows.provenance import calibration_record, provenance
from quant.workflows.report import layer_records
from quant.workflows.solving import Solution, needs_data, solve


@dataclass(frozen=True)
class Solved:
    """Everything that was decided and found.

    Attributes:
        recipe: the recipe.
        models: the components it was applied to, as they were given.
        fates: what becomes of every layer, by component.
        solutions: component -> layer -> what the algorithms found.
        prompts: what was run for statistics; None where nothing was, or a forward loop.
        settings: how the pipeline was called for that.
    """

    recipe: Recipe
    models: Mapping[str, nn.Module]
    fates: Mapping[str, list[Fate]]
    solutions: Mapping[str, Mapping[str, Solution]]
    prompts: list[str] | None
    settings: GenerationSettings

    def quantized(self, component: str) -> list[Fate]:
        """The layers that are quantized."""
        return [fate for fate in self.fates[component] if fate.group is not None]

    def config(self, component: str, dtype: torch.dtype) -> dict[str, Any]:
        """The quantization_config; `dtype` is that of everything not packed."""
        return component_config(self.fates[component], self.solutions[component], dtype, self.recipe)

    def records(self, component: str, errors: Mapping[str, float]) -> list[dict[str, Any]]:
        """One mapping a layer, for the manifest and for tables."""
        return layer_records(self.fates[component], self.solutions[component], errors)

    def provenance(self, source: str) -> dict[str, Any]:
        """The head of a manifest. `source` names the model."""
        record = calibration_record(self.recipe, self.prompts, self.settings) if needs_data(self.recipe) else None
        return {**provenance(self.recipe, source), "calibration": record}


def solve_models(
    models: Mapping[str, nn.Module],
    recipe: Recipe,
    forward: Callable[[], object] | None,
    prompts: list[str] | None,
    settings: GenerationSettings,
    journal: Journal | None = None,
) -> Solved:
    """Decides every layer's fate, runs `forward` where the recipe needs statistics, and finds all scales.

    Raises:
        QuantError: as `decide`, `check_algorithms` and `solve`.
    """
    check_algorithms(recipe)
    fates = {name: decide(model, recipe, name) for name, model in models.items()}
    return Solved(recipe, models, fates, solve(models, fates, recipe, forward, journal), prompts, settings)
