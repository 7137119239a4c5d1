"""Writes one quantized component: config.json and safetensors, weight by weight."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from quant.checkpoint.config import CONFIG_KEY, StoredLayer, build_config
from quant.checkpoint.shards import TensorPlan, write_shards
from quant.models.fate import Fate
from quant.packing.eight_bit import storage_dtype
from quant.packing.linear import linear_codes, linear_scales, relative_error
from quant.recipe import Recipe
from quant.scheme import Scheme
from quant.workflows.solving import Solution


def component_config(
    fates: list[Fate], solutions: Mapping[str, Solution], dtype: torch.dtype, recipe: Recipe
) -> dict[str, Any]:
    """The quantization_config of a component."""
    layers = {
        fate.name: StoredLayer(fate.group.scheme, solutions[fate.name].pre_quant_scale is not None)
        for fate in fates
        if fate.group is not None
    }
    kept = [fate.name for fate in fates if fate.group is None and fate.kind == "Linear"]
    names = {"name": recipe.name, "sha256": recipe.sha256}
    return build_config(layers, kept, str(dtype).removeprefix("torch."), names)


def plan_component(
    tensors: Mapping[str, TensorPlan],
    fates: list[Fate],
    solutions: Mapping[str, Solution],
    errors: dict[str, float],
    on_tensor: Callable[[str], None] = lambda name: None,
) -> dict[str, TensorPlan]:
    """Every tensor of the checkpoint in the model's order. Scales are made now, codes when they are written.

    Args:
        tensors: the component's, by name; those of quantized layers are made twice.
        errors: filled with each layer's relative weight error as its codes are made.
        on_tensor: called with each name as it is planned.
    """
    schemes = {fate.name: fate.group.scheme for fate in fates if fate.group is not None}
    plans: dict[str, TensorPlan] = {}
    for key, tensor in tensors.items():
        on_tensor(key)
        layer, _, leaf = key.rpartition(".")
        if leaf != "weight" or layer not in schemes:
            plans[key] = tensor
            continue
        scheme, solution = schemes[layer], solutions[layer]
        scales = linear_scales(
            tensor.make().cpu(),
            scheme,
            input_scale=solution.input_scale,
            pre_quant_scale=solution.pre_quant_scale,
        )
        codes = storage_dtype(scheme.weights)
        make = partial(_make_codes, layer, tensor, scheme, scales, errors)
        plans[key] = TensorPlan(codes, tensor.shape, make)
        for name, scale in scales.items():
            plans[f"{layer}.{name}"] = TensorPlan(scale.dtype, tuple(scale.shape), partial(_same, scale))
    return plans


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


def _make_codes(
    layer: str,
    weight: TensorPlan,
    scheme: Scheme,
    scales: dict[str, torch.Tensor],
    errors: dict[str, float],
) -> torch.Tensor:
    original = weight.make().cpu()
    codes = linear_codes(original, scheme, scales)
    errors[layer] = relative_error(original, {"weight": codes, **scales})
    return codes


def write_component(
    folder: Path,
    config: dict[str, Any],
    quantization: dict[str, Any],
    plans: Mapping[str, TensorPlan],
    *,
    stem: str,
    max_bytes: int,
    on_tensor: Callable[[str], None],
) -> dict[str, str]:
    """Writes `config.json` and the tensors into a new folder.

    Args:
        config: the component's config, without its quantization.
        quantization: its quantization_config.

    Returns:
        SHA-256 by file name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**config, CONFIG_KEY: quantization}, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    hashes = write_shards(folder, plans, stem=stem, max_bytes=max_bytes, on_tensor=on_tensor)
    return {**hashes, "config.json": hashlib.sha256(text.encode()).hexdigest()}
