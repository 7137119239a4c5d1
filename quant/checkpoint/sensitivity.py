"""`sensitivity.json`: what the quantization of one layer, block or step alone does to the prediction, as measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quant.errors import CalibrationError, QuantError
from quant.fields import is_number
from quant.files.json_files import parse_object, text_of
from quant.text import cut, first_line, shown

FORMAT_VERSION = 1
#: Name of the unit that is a component's whole quantization, as it is where each step is measured.
ALL_LAYERS = "all layers"
#: A step at an end of the schedule stands out by so many times the median error.
_STANDS_OUT = 2.0


@dataclass(frozen=True)
class SensitivityUnit:
    """One layer, or all quantized layers of one block or of the component.

    Attributes:
        component: of the pipeline.
        name: of the layer or the block, such as "blocks.3", or `ALL_LAYERS`.
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


def ends_that_stand_out(errors: Sequence[float]) -> tuple[int, int]:
    """How many first and how many last steps have errors of more than twice the median of all steps.

    That is less than half of them, so some are left between.
    """
    limit = _STANDS_OUT * sorted(errors)[len(errors) // 2] if errors else 0.0
    first, last = (next((i for i, error in enumerate(way) if error <= limit), 0) for way in (errors, errors[::-1]))
    return first, last


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
