"""`quant.measure_sensitivity`: what each layer's or block's quantization alone does to the prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.calibration.preparing import prepare
from quant.calibration.sensitivity import Errors, Replacements, Steps, evenly, watching
from quant.calibration.solved import Solved, solve_models
from quant.errors import CalibrationError, QuantError
from quant.families.table import family_of
from quant.fields import is_number
from quant.json_files import parse_object, text_of
from quant.pipelines.running import run_prompts, step_count
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.timesteps import timestep_of
from quant.recipe import Recipe
from quant.text import cut, first_line, shown

FORMAT_VERSION = 1
UNITS = ("layer", "block")


@dataclass(frozen=True)
class SensitivityUnit:
    """One layer, or all quantized layers of one block.

    Attributes:
        component: of the pipeline.
        name: of the layer or the block, such as "blocks.3".
        layers: the layers that were quantized together.
        scheme: of the layers, in words.
        error: ||e' - e|| / ||e|| of the prediction e over all measured calls.
        by_step: the same of each measured step, in the order of `Sensitivity.steps`; 0 where the component is not
            called at that step.
        stored_bytes: of the layers' weights as quantized, and `original_bytes`, as they were.
    """

    component: str
    name: str
    layers: tuple[str, ...]
    scheme: str
    error: float
    by_step: tuple[float, ...]
    stored_bytes: int
    original_bytes: int


@dataclass(frozen=True)
class Sensitivity:
    """What was measured, and how.

    Attributes:
        recipe, recipe_sha256: whose layers.
        model: its name.
        prompts: those that were run to measure.
        steps: numbers of the measured steps, and `timesteps`, what the denoiser was called with there.
        units: in the model's order.
    """

    recipe: str
    recipe_sha256: str
    model: str
    prompts: tuple[str, ...]
    steps: tuple[int, ...]
    timesteps: tuple[float, ...]
    units: tuple[SensitivityUnit, ...]

    @property
    def ranked(self) -> list[SensitivityUnit]:
        """The most sensitive first."""
        return sorted(self.units, key=lambda unit: -unit.error)

    def to_json(self) -> str:
        """A readable text that `from_json` reads back. Raises CalibrationError for a figure that is not finite."""
        body = {"format_version": FORMAT_VERSION, **asdict(self)}
        return text_of(body, f"sensitivity of {self.recipe}", CalibrationError, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Sensitivity:
        """What `to_json` wrote. Raises ValueError for another format version, and for anything it did not write."""
        try:
            body = parse_object(text, "sensitivity")
        except QuantError as error:
            raise ValueError(str(error)) from None
        version = body.pop("format_version", None)
        if type(version) is not int or version != FORMAT_VERSION:
            raise ValueError(f"format_version {shown(version)} is not read here, only {FORMAT_VERSION}")
        try:
            units = tuple(
                SensitivityUnit(**{**unit, "layers": tuple(unit["layers"]), "by_step": tuple(unit["by_step"])})
                for unit in body.pop("units")
            )
            lists: dict[str, Any] = {name: tuple(body.pop(name)) for name in ("prompts", "steps", "timesteps")}
            found = cls(**body, **lists, units=units)
        except (KeyError, TypeError) as error:
            raise ValueError(f"a key is missing, unknown or of another kind: {cut(first_line(error), 200)}") from None
        wrong = next((key for key, holds in _kinds(found) if not holds), None)
        if wrong is not None:
            raise ValueError(f"'{wrong}' is of another kind")
        return found


def _kinds(found: Sensitivity) -> Iterator[tuple[str, bool]]:
    """Each key of a sensitivity, and whether its value is of the kind that it has to be."""
    for key in ("recipe", "recipe_sha256", "model"):
        yield key, isinstance(getattr(found, key), str)
    yield "prompts", all(isinstance(prompt, str) for prompt in found.prompts)
    yield "steps", all(type(step) is int and step >= 0 for step in found.steps)
    yield "timesteps", all(map(is_number, found.timesteps)) and len(found.timesteps) == len(found.steps)
    for unit in found.units:
        for key in ("component", "name", "scheme"):
            yield key, isinstance(getattr(unit, key), str)
        yield "layers", all(isinstance(layer, str) for layer in unit.layers)
        yield "error", is_number(unit.error) and unit.error >= 0
        yield "by_step", all(map(is_number, unit.by_step)) and len(unit.by_step) == len(found.steps)
        for key in ("stored_bytes", "original_bytes"):
            yield key, type(getattr(unit, key)) is int


def measure_sensitivity(
    model: str | Path,
    recipe: str | Path | Recipe,
    prompts: str | Path | Sequence[str],
    *,
    by: str = "layer",
    runs: int = 4,
    steps: int = 5,
    settings: GenerationSettings | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str | None = None,
    samples: int | None = None,
    seed: int | None = None,
    progress: bool = True,
) -> Sensitivity:
    """Quantizes every layer (or block) of a model on its own and measures what becomes of the denoiser's prediction.

    Costs, beside what the recipe's own calibration costs, `runs` prompts in which each measured call is made once more
    for every unit.

    Args:
        model: a pipeline folder or hub id.
        recipe: how layers are quantized.
        prompts: a prompt file or a list; the first are run to measure, and all that the recipe asks for to calibrate.
        by: "layer", or "block" for all quantized layers of one at once.
        runs: how many prompts are run to measure.
        steps: how many denoising steps of each are measured, evenly from the first to the last.
        settings, dtype, device, samples, seed, progress: as in `quant.calibrate`.

    Raises:
        QuantError: wrong input, or a model that is not called with timesteps.
    """
    prepared = prepare(model, recipe, prompts=prompts, settings=settings, samples=samples, seed=seed, runs=True)
    assert prepared.prompts is not None
    if by not in UNITS:
        raise CalibrationError(f"sensitivity is measured by {' or '.join(UNITS)}, not by {shown(by)}")
    pipe, models = prepared.load(dtype, device)
    check_measurable(models)
    forward = prepared.runner(pipe, progress)
    solved = solve_models(models, prepared.recipe, forward, prepared.prompts, prepared.settings)
    return sensitivity_of(
        solved, pipe, prepared.source.name, prepared.prompts[:runs], by=by, steps=steps, progress=progress
    )


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
    solved: Solved, pipe: Any, model: str, prompts: Sequence[str], *, by: str = "layer", steps: int, progress: bool
) -> Sensitivity:
    """As `measure_sensitivity`, of layers that are solved already.

    Args:
        solved: of components of `pipe`.
        pipe: on the device where it runs.
        model: its name.
        prompts: all of them are run.
    """
    from tqdm import tqdm

    settings = solved.settings
    counter = Steps(evenly(step_count(pipe, settings), steps))
    units = {component: _units(solved, component, by) for component in solved.models}
    found: dict[str, dict[str, dict[int, Errors]]] = {component: {} for component in solved.models}
    with ExitStack() as stack, torch.no_grad():
        total = len(prompts) * len(counter.chosen)
        desc = f"{sum(map(len, units.values()))} {by}s one by one"
        bar = stack.enter_context(tqdm(total=total, desc=desc, unit="step", disable=not progress))
        for component, module in solved.models.items():
            replacements = {name: _replacements(solved, component, layers) for name, layers in units[component].items()}
            stack.enter_context(
                watching(module, replacements, counter, found[component], lambda: bar.update(counter.begun - bar.n))
            )
        seed = solved.recipe.calibration.seed
        for i, prompt in enumerate(prompts):
            counter.new_prompt()
            run_prompts(pipe, [prompt], settings, seed=seed + i, progress=False)
    numbers = tuple(sorted(counter.timesteps))
    return Sensitivity(
        recipe=solved.recipe.name,
        recipe_sha256=solved.recipe.sha256,
        model=model,
        prompts=tuple(prompts),
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
    family = family_of(solved.models[component])
    units: dict[str, list[str]] = {}
    for layer in solved.quantized(component):
        place = family.block(layer.name) if by == "block" else None
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
    schemes = dict.fromkeys(solved.form(component, layer).label for layer in planned)
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
