"""A model, a recipe and inputs, checked against each other before anything is loaded."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.calibration.calls import Calls, open_calls
from quant.calibration.journal import Journal
from quant.calibration.solving import Forward, is_calibrated, needs_data
from quant.devices import find_device
from quant.errors import CalibrationError, ModelError, QuantWarning
from quant.families.table import family_name
from quant.layers.checking import check_model
from quant.pipelines.arguments import Arguments
from quant.pipelines.rows import Inputs, Row, read_any
from quant.pipelines.running import run_rows
from quant.pipelines.settings import FILE_NAME, GenerationSettings
from quant.pipelines.source import Source, components_of, open_source
from quant.pipelines.weights import check_files, check_finite_model
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
        rows: what the pipeline will be run on, or a recording is made of; None where there is nothing of this.
        settings: how the pipeline is called for that.
        calls: a recording that is there: what its denoisers are run on, block by block; None where there is none.
    """

    source: Source
    recipe: Recipe
    components: list[str]
    rows: list[Row] | None
    settings: GenerationSettings
    calls: Calls | None = None

    def load(self, dtype: torch.dtype, device: str | None) -> tuple[Any, dict[str, nn.Module]]:
        """The pipeline, on CUDA where there is one and no `device` is given, and its components to be quantized."""
        return load_checked(self.source, self.components, dtype, device)

    def runner(self, pipe: Any, progress: bool, journal: Journal | None = None) -> Forward:
        """Runs all inputs, or those that the journal of a killed run says are left."""
        assert self.rows is not None
        rows = self.rows
        return lambda label: run_rows(
            pipe,
            rows,
            self.settings,
            seed=self.recipe.calibration.seed,
            progress=progress,
            label=label,
            start=0 if journal is None else journal.done,
            on_row=(lambda count: None) if journal is None else journal.prompt_done,
        )


def load_checked(
    source: Source, components: Sequence[str], dtype: torch.dtype, device: str | None
) -> tuple[Any, dict[str, nn.Module]]:
    """A pipeline on a device, CUDA where there is one and none is given, and some components, all of them sound."""
    where = find_device(device)
    for name in components:
        check_files(source.component_folder(name))
    pipe = source.load_pipeline(dtype)
    models = {name: getattr(pipe, name) for name in components}
    for name, module in models.items():
        check_model(module, name)
        check_finite_model(module, name)
    pipe.to(where)
    return pipe, models


def prepare(
    model: str | Path,
    recipe: str | Path | Recipe,
    *,
    prompts: str | Path | Sequence[str] | None,
    settings: GenerationSettings | None,
    inputs: Inputs | None = None,
    samples: int | None = None,
    seed: int | None = None,
    keep_budget: KeepBudget | None = None,
    runs: bool = False,
    config: str | Path | None = None,
    calls: str | Path | None = None,
) -> Prepared:
    """Reads and checks everything small.

    Args:
        model, recipe, prompts, inputs, settings, samples, seed, keep_budget, config, calls: as in `quant.calibrate`.
        runs: inputs are needed whatever the recipe needs.

    Raises:
        QuantError: no such model or recipe, one that does not fit the other, or inputs that are missing or do not fit.
    """
    source = open_source(model, config)
    chosen = recipe_for(source, recipe, samples, seed)
    if keep_budget is not None:
        chosen = replace(chosen, keep_budget=keep_budget)
    measured = runs
    runs = runs or needs_data(chosen)
    components = components_of(source, chosen, runs=runs)
    if runs and calls is not None and prompts is None and inputs is None:
        _check_calls_alone(chosen, samples)
        recording = open_calls(Path(calls))
        return Prepared(source, chosen, components, None, settings or GenerationSettings(), recording)
    asked = samples is not None
    how = _settings(source, chosen, settings)
    rows = _rows(chosen, source, prompts, inputs, how, asked) if runs else None
    rows = rows if rows is None or measured else needed_rows(chosen, rows)
    return Prepared(source, chosen, components, rows, how)


def _check_calls_alone(recipe: Recipe, samples: int | None) -> None:
    """Raises CalibrationError where something is asked for that a recording without its inputs cannot give."""
    if samples is not None:
        raise CalibrationError("calls and samples are given: a recording is of its own inputs; leave samples out")
    if recipe.keep_budget is not None:
        raise CalibrationError(
            f"{recipe.name}: keep_budget measures the pipeline on prompts; give --prompts or --inputs with --calls"
        )


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


def _rows(
    recipe: Recipe,
    source: Source,
    prompts: str | Path | Sequence[str] | None,
    inputs: Inputs | None,
    settings: GenerationSettings,
    asked: bool,
) -> list[Row]:
    if not source.is_pipeline:
        raise CalibrationError(f"{source.folder}: {recipe.name} runs the whole pipeline; give the pipeline's folder")
    if prompts is None and inputs is None:
        raise CalibrationError(
            f"{recipe.name}: needs calibration data; give --prompts FILE or --inputs FILE (prompts=, inputs= in Python)"
        )
    name, arguments = checked_call(source, settings)
    return calibration_rows(recipe, prompts, inputs, arguments, name, settings, asked=asked)


def checked_call(source: Source, settings: GenerationSettings) -> tuple[str, Arguments]:
    """The class of a pipeline and what its call takes, which these settings and the folder's own fit.

    Raises:
        ModelError: they do not, or diffusers has no such pipeline.
    """
    name, arguments = source.call()
    try:
        GenerationSettings.read(source.folder).for_arguments(arguments, name)
    except ModelError as error:
        raise ModelError(f"{source.folder / FILE_NAME}: {error}") from None
    settings.for_arguments(arguments, name)
    return name, arguments


def calibration_rows(
    recipe: Recipe,
    prompts: str | Path | Sequence[str] | None,
    inputs: Inputs | None,
    arguments: Arguments,
    pipeline: str,
    settings: GenerationSettings,
    *,
    asked: bool = False,
) -> list[Row]:
    """The inputs that a recipe is calibrated on: as many as it says, or all of a source that has fewer.

    Args:
        recipe: says how many.
        prompts, inputs: a file, folder or data set, or a list; one of both.
        arguments, pipeline: what the pipeline's call takes, and its class.
        settings: what all calls get.
        asked: did the user ask for so many? Then a source with fewer is refused, as an evaluation refuses it; a list
            never is.

    Raises:
        CalibrationError: both are given; else as `read_prompts` and `read_rows`.

    Warns:
        QuantWarning: a source has fewer than the recipe would take.
    """
    if prompts is not None and inputs is not None:
        raise CalibrationError(
            "prompts and inputs are given: a table of inputs has a column of prompts; give that alone"
        )
    wanted = recipe.calibration.samples
    rows = read_any(prompts, inputs, arguments, pipeline, wanted, settings=settings, enough=asked)
    source = prompts if inputs is None else inputs
    if len(rows) < wanted and isinstance(source, str | Path) and is_calibrated(recipe):
        what = "prompts" if inputs is None else "inputs"
        warnings.warn(
            f"{source}: {len(rows)} {what}, {recipe.name} would take {wanted}: calibrated on these alone",
            QuantWarning,
            stacklevel=2,
        )
    return rows


def needed_rows(recipe: Recipe, rows: list[Row]) -> list[Row]:
    """The inputs that are run: the first alone where nothing but its schedule is asked for."""
    return rows if is_calibrated(recipe) or recipe.keep_budget is not None else rows[:1]


def _settings(source: Source, recipe: Recipe, settings: GenerationSettings | None) -> GenerationSettings:
    """The folder's settings, then the recipe's steps, then what the user asked for."""
    base = GenerationSettings.read(source.folder).merged(num_inference_steps=recipe.calibration.steps)
    return base.merged(**(settings or GenerationSettings()).given())
