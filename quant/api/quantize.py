"""`quant.quantize`: a model in memory becomes a quantized copy."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.api.record import Record, attach
from quant.calibration.keep_budget import apply_budget
from quant.calibration.preparing import calibration_rows, needed_rows
from quant.calibration.schedule import schedule_of_run
from quant.calibration.sensitivity import check_measurable
from quant.calibration.solved import Solved, solve_models
from quant.calibration.solving import Forward, needs_data
from quant.errors import CalibrationError, ModelError, RecipeError
from quant.families.table import DENOISERS, family_of
from quant.files.model_paths import no_folder
from quant.layers.carrying import carry_over
from quant.layers.checking import check_copyable, check_model
from quant.layers.replace import call_layers, quantized_layers
from quant.pipelines.arguments import call_arguments, class_name, is_modular
from quant.pipelines.modes import evaluating
from quant.pipelines.rows import Inputs, Row
from quant.pipelines.running import run_rows
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.weights import check_finite_model
from quant.recipe import Recipe
from quant.recipe_files import find_recipe

#: The name under which a lone module's layers are reported.
MODEL = "model"


def quantize(
    model: Any,
    recipe: str | Path | Recipe,
    *,
    prompts: str | Path | Sequence[str] | None = None,
    inputs: Inputs | None = None,
    forward_loop: Callable[[Any], object] | None = None,
    settings: GenerationSettings | None = None,
    progress: bool = True,
) -> Any:
    """A quantized copy of a model or of a pipeline; what was given is left as it was.

    Statistics are gathered while it runs, in as many passes over the data as the recipe's Hessians need; a folder's
    denoisers are calibrated in one, on recorded calls (`quant.calibrate`).

    It runs in eval mode while it is calibrated, and each of its modules is in its own mode again afterwards. The copy
    is in eval mode. Hooks of quantized layers come along; a layer that is more than weight and bias is kept.

    Args:
        model: any `nn.Module` with Linears or convolutions, or a diffusers pipeline, whose denoisers are quantized.
        recipe: a shipped recipe's name, the path of a YAML file, or a Recipe.
        prompts, inputs: as in `quant.calibrate`, for a pipeline and a recipe that needs data.
        forward_loop: instead of prompts: called once with `model`, runs it over the calibration data. The only way
            for a module that is no pipeline, as ModelOpt's argument of this name.
        settings: size, steps, guidance and whatever else calibration runs are called with.
        progress: a bar on stderr.

    Returns:
        The copy, on the same device, its packed layers `QuantLinear`s and `QuantConv`s. `quant.save` writes it; a
        diffusers model also has its own `save_pretrained`.

    Raises:
        QuantError: a recipe that does not fit, missing or unusable data, weights that are not finite.
    """
    if isinstance(model, str | Path):
        what = no_folder(Path(model)) or "is a path; quantize takes a model in memory, quant.calibrate takes folders"
        raise ModelError(f"{model}: {what}")
    modules = {MODEL: model} if isinstance(model, nn.Module) else _denoisers(model)
    chosen = find_recipe(recipe, family_of(next(iter(modules.values()))).name)
    if chosen.components is not None and not isinstance(model, nn.Module):
        modules = _named(modules, chosen, model)
    given = settings or GenerationSettings()
    rows: list[Row] | None = None
    forward: Forward | None = None if forward_loop is None else (lambda label: forward_loop(model))
    if needs_data(chosen) and forward is None:
        given = GenerationSettings(num_inference_steps=chosen.calibration.steps).merged(**given.given())
        rows = needed_rows(chosen, _rows(model, chosen, prompts, inputs, given))
        forward = _runner(model, rows, given, chosen, progress)
    for name, module in modules.items():
        if quantized_layers(module):
            raise ModelError(f"{name}: is quantized already; quantize the original model")
        check_model(module, name)
        check_copyable(module, name)
        check_finite_model(module, name)
    if chosen.keep_budget is not None:
        if rows is None:
            raise CalibrationError(f"{chosen.name}: keep_budget measures a pipeline on prompts; give it with prompts=")
        check_measurable(modules)
    with evaluating(_all_modules(model)):
        schedule = schedule_of_run(chosen, model, rows, given)
        solved = solve_models(modules, chosen, forward, rows, given, schedule=schedule)
        if rows is not None and chosen.keep_budget is not None:
            solved, _ = apply_budget(solved, model, type(model).__name__, rows, progress)
    copies = {name: _copy(solved, name) for name in modules}
    if isinstance(model, nn.Module):
        return copies[MODEL]
    pipe = copy.copy(model)
    if is_modular(pipe):  # its register of components is the original's, too
        for name, part in copies.items():
            setattr(pipe, name, part)
    else:
        pipe.register_modules(**copies)
    return pipe


def _all_modules(model: Any) -> list[nn.Module]:
    """The module, or every module of the pipeline: all of them run while it is calibrated."""
    parts = [model] if isinstance(model, nn.Module) else list(model.components.values())
    return [part for part in parts if isinstance(part, nn.Module)]


def _denoisers(pipe: Any) -> dict[str, nn.Module]:
    components = getattr(pipe, "components", {})
    found = {name: components[name] for name in DENOISERS if isinstance(components.get(name), nn.Module)}
    if not found:
        raise ModelError(f"{type(pipe).__name__} is neither a torch module nor a pipeline with a {DENOISERS[0]}")
    return found


def _named(modules: dict[str, nn.Module], recipe: Recipe, pipe: Any) -> dict[str, nn.Module]:
    assert recipe.components is not None
    for name in recipe.components:
        if not isinstance(pipe.components.get(name), nn.Module):
            raise RecipeError(f"{recipe.name}: components: '{name}' is no model of {type(pipe).__name__}")
    return {name: modules.get(name, pipe.components[name]) for name in recipe.components}


def _rows(
    model: Any,
    recipe: Recipe,
    prompts: str | Path | Sequence[str] | None,
    inputs: Inputs | None,
    settings: GenerationSettings,
) -> list[Row]:
    if isinstance(model, nn.Module):
        raise CalibrationError(f"{recipe.name}: needs calibration data; give forward_loop= to run the module over it")
    if prompts is None and inputs is None:
        raise CalibrationError(f"{recipe.name}: needs calibration data; give prompts=, inputs= or forward_loop=")
    return calibration_rows(recipe, prompts, inputs, call_arguments(model), class_name(model), settings)


def _runner(pipe: Any, rows: list[Row], settings: GenerationSettings, recipe: Recipe, progress: bool) -> Forward:
    return lambda label: run_rows(pipe, rows, settings, seed=recipe.calibration.seed, progress=progress, label=label)


def _copy(solved: Solved, component: str) -> nn.Module:
    """A copy of one component in which packed layers stand for the quantized Linears, which are never copied."""
    model = solved.models[component]
    errors: dict[str, float] = {}
    known: dict[int, Any] = {}
    layers: dict[nn.Module, nn.Module] = {}
    for planned in solved.quantized(component):
        linear = model.get_submodule(planned.name)
        layers[linear], errors[planned.name] = solved.layer(component, planned)
        known[id(linear)] = layers[linear]
    # deepcopy takes what is known of an object instead of copying it.
    made: nn.Module = copy.deepcopy(model, known)
    for linear, layer in layers.items():
        carry_over(linear, layer, known)
    for module in made.modules():
        call_layers(module)
    config = solved.config(component, _float_dtype(model))
    attach(made, Record(config, solved.provenance(type(model).__name__), solved.records(component, errors)))
    return made.eval()


def _float_dtype(model: nn.Module) -> torch.dtype:
    """The dtype that most of a model has; some parts may be kept in float32."""
    sizes = Counter[torch.dtype]()
    for parameter in model.parameters():
        sizes[parameter.dtype] += parameter.numel() if parameter.is_floating_point() else 0
    return sizes.most_common(1)[0][0]
