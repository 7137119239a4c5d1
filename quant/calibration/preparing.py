"""A model, a recipe and prompts, checked against each other before anything is loaded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.calibration.journal import Journal
from quant.calibration.solving import Forward, is_calibrated, needs_data
from quant.devices import find_device
from quant.errors import CalibrationError, QuantWarning
from quant.families.table import family_name
from quant.layers.checking import check_model
from quant.pipelines.running import run_prompts
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.source import Source, components_of, open_source
from quant.pipelines.weights import check_files, check_finite_model
from quant.prompts import read_prompts
from quant.recipe import Recipe
from quant.recipe_files import find_recipe
from quant.recipe_parts import KeepBudget


@dataclass(frozen=True)
class Prepared:
    """What a calibration starts from.

    Attributes:
        source: the model.
        recipe: the recipe, with what the user overrode.
        components: those it is applied to.
        prompts: what will be run; None where nothing will.
        settings: how the pipeline is called for that.
    """

    source: Source
    recipe: Recipe
    components: list[str]
    prompts: list[str] | None
    settings: GenerationSettings

    def load(self, dtype: torch.dtype, device: str | None) -> tuple[Any, dict[str, nn.Module]]:
        """The pipeline, on CUDA where there is one and no `device` is given, and its components to be quantized."""
        where = find_device(device)
        for name in self.components:
            check_files(self.source.component_folder(name))
        pipe = self.source.load_pipeline(dtype)
        models = {name: getattr(pipe, name) for name in self.components}
        for name, module in models.items():
            check_model(module, name)
            check_finite_model(module, name)
        pipe.to(where)
        return pipe, models

    def runner(self, pipe: Any, progress: bool, journal: Journal | None = None) -> Forward:
        """Runs all prompts, or those that the journal of a killed run says are left."""
        assert self.prompts is not None
        prompts = self.prompts
        return lambda label: run_prompts(
            pipe,
            prompts,
            self.settings,
            seed=self.recipe.calibration.seed,
            progress=progress,
            label=label,
            start=0 if journal is None else journal.done,
            on_prompt=(lambda count: None) if journal is None else journal.prompt_done,
        )


def prepare(
    model: str | Path,
    recipe: str | Path | Recipe,
    *,
    prompts: str | Path | Sequence[str] | None,
    settings: GenerationSettings | None,
    samples: int | None = None,
    seed: int | None = None,
    keep_budget: KeepBudget | None = None,
    runs: bool = False,
    config: str | Path | None = None,
) -> Prepared:
    """Reads and checks everything small.

    Args:
        model, recipe, prompts, settings, samples, seed, keep_budget, config: as in `quant.calibrate`.
        runs: prompts are needed whatever the recipe needs.

    Raises:
        QuantError: no such model or recipe, one that does not fit the other, or prompts that are missing.
    """
    source = open_source(model, config)
    chosen = recipe_for(source, recipe, samples, seed)
    if keep_budget is not None:
        chosen = replace(chosen, keep_budget=keep_budget)
    runs = runs or needs_data(chosen)
    components = components_of(source, chosen, runs=runs)
    asked = samples is not None
    texts = _prompts(chosen, source, prompts, asked) if runs else None
    return Prepared(source, chosen, components, texts, _settings(source, chosen, settings))


def recipe_for(
    source: Source, recipe: str | Path | Recipe, samples: int | None = None, seed: int | None = None
) -> Recipe:
    """A recipe by name, path or itself, as it is for a model's family; with what the user overrides.

    Raises:
        RecipeError: as `find_recipe`.
    """
    family = next((family_name(cls) for cls in source.classes.values() if family_name(cls) != "generic"), "generic")
    chosen = find_recipe(recipe, family)
    changes: dict[str, Any] = {key: value for key, value in (("samples", samples), ("seed", seed)) if value is not None}
    return replace(chosen, calibration=replace(chosen.calibration, **changes)) if changes else chosen


def _prompts(recipe: Recipe, source: Source, prompts: str | Path | Sequence[str] | None, asked: bool) -> list[str]:
    if not source.is_pipeline:
        raise CalibrationError(f"{source.folder}: {recipe.name} runs the whole pipeline; give the pipeline's folder")
    if prompts is None:
        raise CalibrationError(f"{recipe.name}: needs calibration data; give --prompts FILE (prompts= in Python)")
    return calibration_prompts(recipe, prompts, asked=asked)


def calibration_prompts(recipe: Recipe, prompts: str | Path | Sequence[str], *, asked: bool = False) -> list[str]:
    """The prompts that a recipe is calibrated on: as many as it says, or all of a source that has fewer.

    Args:
        recipe: says how many.
        prompts: a file, folder or data set, or a list.
        asked: did the user ask for so many? Then a source with fewer is refused, as an evaluation refuses it; a list of
            prompts never is.

    Raises:
        CalibrationError: as `read_prompts`.

    Warns:
        QuantWarning: a source has fewer than the recipe would take.
    """
    wanted = recipe.calibration.samples
    texts = read_prompts(prompts, wanted, enough=asked)
    if len(texts) < wanted and isinstance(prompts, str | Path) and is_calibrated(recipe):
        warnings.warn(
            f"{prompts}: {len(texts)} prompts, {recipe.name} would take {wanted}: calibrated on these alone",
            QuantWarning,
            stacklevel=2,
        )
    return texts


def _settings(source: Source, recipe: Recipe, settings: GenerationSettings | None) -> GenerationSettings:
    """The folder's settings, then the recipe's steps, then what the user asked for."""
    base = GenerationSettings.read(source.folder).merged(num_inference_steps=recipe.calibration.steps)
    return base.merged(**(settings or GenerationSettings()).given())
