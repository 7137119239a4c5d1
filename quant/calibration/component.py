"""What a checkpoint holds of one component: its config, and every tensor."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from quant.calibration.layer_part import layer_part
from quant.calibration.layer_plan import Kept, LayerPlan, Planned, planned
from quant.calibration.solution import Solution
from quant.checkpoint.exports.table import build_config
from quant.checkpoint.shards import Part, Put, TensorPlan, copied
from quant.errors import QuantWarning
from quant.formats.tensors import tensor_layout
from quant.layers.t5_feed_forward import is_t5
from quant.recipe import Recipe


def component_config(
    model: nn.Module, plan: list[LayerPlan], solutions: Mapping[str, Solution], dtype: torch.dtype, recipe: Recipe
) -> dict[str, Any]:
    """The quantization_config of a component."""
    layers = {layer.name: solutions[layer.name].layer_format(layer.layer_format) for layer in planned(plan)}
    packed = any("weight" not in tensor_layout(layers[layer.name], *layer.shape) for layer in planned(plan))
    standard = all(layer.layer_kind.standard for layer in planned(plan)) and not (packed and is_t5(model))
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
    made, twice = [], []
    for key, tensor in tensors.items():
        layer = quantized.get(key)
        if layer is None:
            made.append(copied(key, tensor))
            continue
        solution = solutions[layer.name]
        codes = _codes(tensor, layer, solution)
        if codes is None:
            made.append(layer_part(tensor, layer, solution, errors))
            twice += [layer.name] if tensor.coded is not None else []
        else:
            made.append(_codes_part(layer, codes, errors))
    if twice:
        warnings.warn(
            f"{len(twice)} layers are quantized already in another way, such as '{twice[0]}'; their weights are "
            "rounded a second time",
            QuantWarning,
            stacklevel=2,
        )
    return made


def _codes(tensor: TensorPlan, layer: Planned, solution: Solution) -> dict[str, TensorPlan] | None:
    """The tensors of a quantized layer where files hold them as they are to be written; None where they do not."""
    wanted = solution.layer_format(layer.layer_format)
    solved = solution.weight is not None or solution.grid is not None
    if tensor.coded is None or solved or not tensor.coded.serves(replace(wanted, steps=None)):
        return None
    return {leaf: tensor.coded.tensors[leaf] for leaf in tensor_layout(wanted, *layer.shape)}


def _codes_part(layer: Planned, codes: Mapping[str, TensorPlan], errors: dict[str, float]) -> Part:
    """The part of a layer whose tensors are copied, which loses nothing."""
    parts = [copied(f"{layer.name}.{leaf}", tensor) for leaf, tensor in codes.items()]

    def make(put: Put) -> None:
        errors[layer.name] = 0.0
        for part in parts:
            part.make(put)

    return Part({name: tensor for part in parts for name, tensor in part.tensors.items()}, make)
