"""What a checkpoint holds of one component: its config, and every tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from quant.calibration.layer_part import layer_part
from quant.calibration.layer_plan import Kept, LayerPlan, planned
from quant.calibration.solution import Solution
from quant.checkpoint.exports.table import build_config
from quant.checkpoint.shards import Part, TensorPlan, copied
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


def component_parts(
    tensors: Mapping[str, TensorPlan],
    plan: list[LayerPlan],
    solutions: Mapping[str, Solution],
    errors: dict[str, float],
) -> list[Part]:
    """What makes every tensor of the checkpoint, in the model's order.

    Args:
        tensors: the component's, by name.
        plan, solutions: of its layers.
        errors: gets each layer's relative weight error as its tensors are made.
    """
    quantized = {f"{layer.name}.weight": layer for layer in planned(plan)}
    return [
        layer_part(tensor, quantized[key], solutions[quantized[key].name], errors)
        if key in quantized
        else copied(key, tensor)
        for key, tensor in tensors.items()
    ]
