"""The algorithms a recipe may name, what statistics each needs and which options it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from quant.algorithms.ranges import check_percentile
from quant.algorithms.smoothquant import check_alpha
from quant.errors import RecipeError
from quant.fields import check_count, is_number
from quant.formats.scheme import Scheme
from quant.recipe import Recipe
from quant.recipe_parts import Algorithm, Group
from quant.text import shown


@dataclass(frozen=True)
class Needs:
    """Statistics of a layer's input that calibration has to collect.

    Attributes:
        amax: one absolute maximum over all of the input.
        channel_amax: an absolute maximum per input channel, [K].
        channel_mean: a mean absolute value per input channel, [K].
        rows: a sample of input rows, [R, K].
        hessian: sum of x x^T over all rows, [K, K].
    """

    amax: bool = False
    channel_amax: bool = False
    channel_mean: bool = False
    rows: bool = False
    hessian: bool = False

    def __or__(self, other: Needs) -> Needs:
        return Needs(**{field.name: getattr(self, field.name) or getattr(other, field.name) for field in fields(self)})

    def __bool__(self) -> bool:
        return any(getattr(self, field.name) for field in fields(self))


def _damping(value: object, where: str) -> None:
    if not is_number(value) or not 0 < value < 1:
        raise RecipeError(f"{where}: must be a number between 0 and 1, got {shown(value)}")


def _flag(value: object, where: str) -> None:
    if not isinstance(value, bool):
        raise RecipeError(f"{where}: must be true or false, got {shown(value)}")


def _rank(value: object, where: str) -> None:
    check_count(value, 1, where)


def _alpha(value: object, where: str) -> None:
    check_alpha(value, where.removesuffix(".alpha"))


_GPTQ: dict[str, Callable[[object, str], None]] = {"clip": _flag, "damping": _damping, "refine": _flag}
_ROUNDINGS = ("nearest", "gptq")


def _rounding(value: object, where: str) -> None:
    if value not in _ROUNDINGS:
        raise RecipeError(f"{where}: must be {' or '.join(_ROUNDINGS)}, got {shown(value)}")


_OPTIONS: dict[str, dict[str, Callable[[object, str], None]]] = {
    "max": {},
    "mse": {},
    "percentile": {"percentile": check_percentile},
    "smoothquant": {"alpha": _alpha, "rounding": _rounding},
    "awq": {"rounding": _rounding},
    "gptq": _GPTQ,
    "svdquant": {"rank": _rank, **_GPTQ},
}
#: Algorithms that find a static input's range otherwise than by its largest value.
RANGES = ("percentile", "mse")
#: Algorithms and methods that weigh a weight's errors by the inputs they meet.
_BY_HESSIAN = ("gptq", "svdquant", "mse", "awq")
_METHODS_BY_HESSIAN = ("wanda", "sparsegpt", "search")


def needs_of(group: Group) -> Needs:
    """What a group's scheme, algorithm and sparsity need; nothing for round-to-nearest with dynamic inputs."""
    needs = Needs(amax=group.scheme.has_static_input)
    if group.algorithm is not None and group.algorithm.name == "smoothquant":
        needs |= Needs(channel_amax=True, rows=True, hessian=rounds_smoothed(group))
    if group.algorithm is not None and group.algorithm.name in RANGES and group.scheme.has_static_input:
        needs |= Needs(rows=True)
    if group.algorithm is not None and group.algorithm.name == "awq":
        needs |= Needs(channel_mean=True)
    if group.algorithm is not None and group.algorithm.name in _BY_HESSIAN:
        needs |= Needs(hessian=True)
    if group.sparsity is not None and group.sparsity.method in _METHODS_BY_HESSIAN:
        needs |= Needs(hessian=True)
    return needs


def rounds_smoothed(group: Group) -> bool:
    """Is the smoothed weight rounded by GPTQ, and not to nearest?"""
    algorithm = group.algorithm
    return algorithm is not None and dict(algorithm.options).get("rounding") == "gptq"


def check_algorithms(recipe: Recipe) -> None:
    """Checks names and options of every group's algorithm.

    Raises:
        RecipeError: an unknown name, option or value, or an algorithm that would do nothing.
    """
    for i, group in enumerate(recipe.groups):
        if group.algorithm is not None:
            _check(group, group.algorithm, f"{recipe.name}: groups[{i}].algorithm")


def _check(group: Group, algorithm: Algorithm, where: str) -> None:
    allowed = _OPTIONS.get(algorithm.name)
    if allowed is None:
        raise RecipeError(f"{where}: unknown algorithm {shown(algorithm.name)}; known: {', '.join(_OPTIONS)}")
    options: Mapping[str, Any] = dict(algorithm.options)
    unknown = [key for key in options if key not in allowed]
    if unknown:
        known = ", ".join(allowed) or "none"
        raise RecipeError(f"{where}: unknown option {shown(unknown[0])} of {algorithm.name}; known: {known}")
    for key, value in options.items():
        allowed[key](value, f"{where}.{key}")
    if algorithm.name in ("max", "percentile") and not group.scheme.has_static_input:
        raise RecipeError(
            f"{where}: '{algorithm.name}' finds static input scales, and {group.scheme.name} has dynamic ones"
        )
    if algorithm.name != "max" and group.scheme.weights is None:
        raise RecipeError(f"{where}: '{algorithm.name}' quantizes, and {group.scheme.name} leaves weights as they are")
    if algorithm.name == "smoothquant" and (group.scheme.input_activations is None or group.sparsity is not None):
        what = "2:4 weights" if group.sparsity is not None else f"{group.scheme.name}, whose inputs are not quantized"
        raise RecipeError(f"{where}: 'smoothquant' makes inputs easier to quantize; it is not for {what}")
    if algorithm.name == "awq" and (group.scheme.same_numbers or group.sparsity is not None):
        what = "2:4 weights" if group.sparsity is not None else f"{group.scheme.name}; use smoothquant"
        raise RecipeError(f"{where}: 'awq' is for packed weights in groups, not for {what}")
    if algorithm.name == "smoothquant" and not _smoothable(group.scheme):
        raise RecipeError(f"{where}: 'smoothquant' is for a scale a row or tensor, not for {group.scheme.name}")


def _smoothable(scheme: Scheme) -> bool:
    """Is nothing unpacked, and is there one scale a row or tensor, which factors of columns do not touch?"""
    return scheme.same_numbers and scheme.weights is not None and scheme.weights.strategy in ("channel", "tensor")
