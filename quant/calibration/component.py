"""What a checkpoint holds of one component: its config, and every tensor, of which codes are made one at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch

from quant.algorithms.base import Rounded
from quant.calibration.layer_plan import Kept, LayerPlan, Planned, planned
from quant.calibration.solution import Solution
from quant.checkpoint.exports.table import build_config
from quant.checkpoint.shards import TensorPlan
from quant.errors import ModelError
from quant.formats.base import Tensors
from quant.formats.layer import LayerFormat
from quant.formats.table import format_of
from quant.formats.tensors import coded_weight, relative_error, small_tensors, tensor_layout
from quant.recipe import Recipe


def component_config(
    plan: list[LayerPlan], solutions: Mapping[str, Solution], dtype: torch.dtype, recipe: Recipe
) -> dict[str, Any]:
    """The quantization_config of a component."""
    layers = {layer.name: solutions[layer.name].layer_format(layer.group) for layer in planned(plan)}
    standard = all(layer.layer_kind.standard for layer in planned(plan))
    # Linears, of every class.
    kept = [layer.name for layer in plan if isinstance(layer, Kept) and len(layer.shape) == 2]
    names = {"name": recipe.name, "sha256": recipe.sha256}
    return build_config(layers, kept, str(dtype).removeprefix("torch."), names, standard=standard)


def plan_component(
    tensors: Mapping[str, TensorPlan],
    plan: list[LayerPlan],
    solutions: Mapping[str, Solution],
    errors: dict[str, float],
    on_tensor: Callable[[str], None] = lambda name: None,
) -> dict[str, TensorPlan]:
    """Every tensor of the checkpoint in the model's order. Scales are made now, codes when they are written.

    Args:
        tensors: the component's, by name; the weight of a quantized layer is made when its codes are written, and
            before that where its own range decides its scales, which lie before all codes in a file.
        errors: filled with each layer's relative weight error as its codes are made.
        on_tensor: called with each name as it is planned.
    """
    quantized = {layer.name: layer for layer in planned(plan)}
    plans: dict[str, TensorPlan] = {}
    for key, tensor in tensors.items():
        on_tensor(key)
        layer, _, leaf = key.rpartition(".")
        if leaf != "weight" or layer not in quantized:
            plans[key] = tensor
            continue
        layer_format, solution = solutions[layer].layer_format(quantized[layer].group), solutions[layer]
        weight = _matrix(quantized[layer], tensor)
        small = _scales(weight, quantized[layer], solution)
        main = format_of(layer_format).main
        dtype, shape = tensor_layout(layer_format, *weight.shape)[main]
        plans[f"{layer}.{main}"] = TensorPlan(
            dtype or tensor.dtype, shape, partial(_codes, weight, quantized[layer], solution, small, errors)
        )
        for name, one in small.items():
            plans[f"{layer}.{name}"] = TensorPlan(one.dtype, tuple(one.shape), partial(_same, one))
    return plans


def pack_layer(weight: torch.Tensor, layer: Planned, solution: Solution) -> tuple[Tensors, float]:
    """A quantized layer's tensors by their names in a checkpoint, and its relative weight error.

    Args:
        weight: the original [N, K], on any device; the tensors are on the CPU.
        layer: what becomes of it.
        solution: what the algorithms found.

    Raises:
        ModelError: names the layer, where its weights cannot be stored in its format.
    """
    rounded, layer_format = solution.rounded(weight, layer.group), solution.layer_format(layer.group)
    small = small_tensors(rounded.weight, layer_format, grid=rounded.grid, **solution.around(weight.dtype))
    codes, error = _coded(weight, rounded, layer, layer_format, small)
    return {format_of(layer_format).main: codes, **small}, error


def _scales(weight: TensorPlan, layer: Planned, solution: Solution) -> Tensors:
    """All tensors of a layer but its codes. The weight is made only where its own range decides the scales."""
    layer_format, around = solution.layer_format(layer.group), solution.around(weight.dtype)
    if solution.grid is not None:
        return small_tensors(torch.empty(weight.shape, device="meta"), layer_format, grid=solution.grid, **around)
    rounded = solution.rounded(weight.make(), layer.group)
    return small_tensors(rounded.weight, layer_format, grid=rounded.grid, **around)


def _codes(
    weight: TensorPlan, layer: Planned, solution: Solution, small: Tensors, errors: dict[str, float]
) -> torch.Tensor:
    """The codes that lie by the scales `small`; `errors` gets the layer's."""
    original = weight.make()
    rounded = solution.rounded(original, layer.group)
    codes, errors[layer.name] = _coded(original, rounded, layer, solution.layer_format(layer.group), small)
    return codes


def _coded(
    original: torch.Tensor, rounded: Rounded, layer: Planned, layer_format: LayerFormat, small: Tensors
) -> tuple[torch.Tensor, float]:
    """Codes of a rounded weight, and how far they are from the original one."""
    source = rounded.weight.to(original.dtype) if layer_format.scheme.weights is None else rounded.weight
    codes = coded_weight(source, layer_format, small)
    exact = original.cpu()
    error = relative_error(exact, {format_of(layer_format).main: codes, **small}, layer_format)
    if not math.isfinite(error):
        raise ModelError(
            f"layer '{layer.name}': its weights reach {float(exact.double().abs().max()):.3g}; as {layer_format.label} "
            "some would not be finite; keep it with 'ignore'"
        )
    return codes, error


def _matrix(layer: Planned, weight: TensorPlan) -> TensorPlan:
    """The weight of the model as [N, K]."""
    return TensorPlan(weight.dtype, layer.shape, lambda: layer.layer_kind.matrix(weight.make()))


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor
