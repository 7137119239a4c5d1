"""What recipes do to a model at real size, from names and shapes alone."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import nn

from quant.calibration.layer_plan import Kept, LayerPlan, Planned, layer_plan, planned
from quant.errors import QuantError
from quant.formats.tensors import tensor_layout
from quant.pipelines.weights import target_dtype
from quant.recipe import Recipe
from quant.text import first_line

Found = dict[str, Any]


def coverage(model: nn.Module, recipe: Recipe) -> Found:
    """What becomes of a model's layers.

    Args:
        model: on the meta device.
        recipe: whose `keep_budget`, which needs a pipeline to measure, is left out.

    Returns:
        `layers` that are quantized, and the distinct `inputs` that they read; `quantized` and `sparse`, shares of all
        parameters; `bytes` that are stored as a share of bf16, without smoothing factors, which are below 0.1%; `kept`,
        rows of a reason, its layers and their share of all parameters, the largest first. Or only `reason`, why the
        recipe is refused.
    """
    try:
        layers = layer_plan(model, recipe)
    except QuantError as error:
        return {"reason": first_line(error)}
    total = sum(weight.numel() for weight in model.parameters())
    taken = planned(layers)
    return {
        "layers": len(taken),
        "inputs": len({layer.input_group for layer in taken}),
        "quantized": round(sum(map(_size, taken)) / total, 4),
        "sparse": round(sum(_size(layer) for layer in taken if layer.group.layer_format.sparse) / total, 4),
        "bytes": round(_stored_bytes(model, taken) / _stored_bytes(model, [], torch.bfloat16), 4),
        "kept": _kept(layers, total),
    }


def _size(layer: LayerPlan) -> int:
    return math.prod(layer.shape)


def _stored_bytes(model: nn.Module, taken: list[Planned], dtype: torch.dtype | None = None) -> int:
    """What a model's tensors take in a checkpoint; what is not quantized in `dtype`, or else as diffusers loads it."""
    layouts = {f"{layer.name}.weight": tensor_layout(layer.group.layer_format, *layer.shape) for layer in taken}
    total = 0
    for name, tensor in model.state_dict().items():
        own = dtype or target_dtype(model, name, tensor.dtype, torch.bfloat16)
        if name in layouts:
            total += sum(math.prod(shape) * (kind or torch.bfloat16).itemsize for kind, shape in layouts[name].values())
        else:
            total += tensor.numel() * own.itemsize
    return total


def _kept(layers: list[LayerPlan], total: int) -> list[Found]:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for layer in layers:
        if isinstance(layer, Kept):
            counts[layer.reason] += 1
            sizes[layer.reason] += _size(layer)
    return [
        {"reason": reason, "layers": counts[reason], "share": round(size / total, 4)}
        for reason, size in sizes.most_common()
    ]
