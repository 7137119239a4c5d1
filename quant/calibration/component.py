"""Writes one quantized component: config.json and safetensors, weight by weight."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from quant.algorithms.base import Rounded
from quant.calibration.layer_plan import Kept, LayerPlan, Planned, planned
from quant.calibration.solution import Solution
from quant.checkpoint.config import build_config
from quant.checkpoint.shards import TensorPlan
from quant.errors import ModelError
from quant.formats.layer import LayerForm
from quant.formats.table import format_of
from quant.formats.tensors import coded_weight, relative_error, small_tensors, tensor_layout
from quant.recipe import Recipe


def component_config(
    plan: list[LayerPlan], solutions: Mapping[str, Solution], dtype: torch.dtype, recipe: Recipe
) -> dict[str, Any]:
    """The quantization_config of a component."""
    layers = {layer.name: solutions[layer.name].form(layer.group) for layer in planned(plan)}
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
        tensors: the component's, by name; those of quantized layers are made twice.
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
        form, solution = solutions[layer].form(quantized[layer].group), solutions[layer]
        made = Made(layer, form, _matrix(quantized[layer], tensor), solution, errors)
        small = made.small()
        main = format_of(form).main
        dtype, shape = tensor_layout(form, *quantized[layer].shape)[main]
        plans[f"{layer}.{main}"] = TensorPlan(dtype or tensor.dtype, shape, partial(made.main, small))
        for name, one in small.items():
            plans[f"{layer}.{name}"] = TensorPlan(one.dtype, tuple(one.shape), partial(_same, one))
    return plans


def _matrix(layer: Planned, weight: TensorPlan) -> TensorPlan:
    """The weight of the model as [N, K]."""
    return TensorPlan(weight.dtype, layer.shape, lambda: layer.layer_kind.matrix(weight.make()))


def _same(tensor: torch.Tensor) -> torch.Tensor:
    return tensor


@dataclass(frozen=True)
class Made:
    """A quantized layer's tensors, from its original weight and what the algorithms found.

    Raises:
        ModelError: names the layer, where its weights cannot be stored in its form.
    """

    layer: str
    form: LayerForm
    original: TensorPlan
    solution: Solution
    errors: dict[str, float]

    def small(self) -> dict[str, torch.Tensor]:
        """All of them but the codes."""
        made = self._rounded()
        return small_tensors(made.weight, self.form, grid=made.grid, **self.solution.around(self.original.dtype))

    def main(self, small: dict[str, torch.Tensor]) -> torch.Tensor:
        """The codes; `errors` gets the layer's."""
        source = self._rounded().weight
        if self.form.scheme.weights is None:
            source = source.to(self.original.dtype)
        coded = coded_weight(source, self.form, small)
        tensors = {format_of(self.form).main: coded, **small}
        original = self.original.make().cpu()
        error = relative_error(original, tensors, self.form)
        if not math.isfinite(error):
            raise ModelError(
                f"layer '{self.layer}': its weights reach {float(original.double().abs().max()):.3g}; as "
                f"{self.form.label} some would not be finite; keep it with 'ignore'"
            )
        self.errors[self.layer] = error
        return coded

    def _rounded(self) -> Rounded:
        return self.solution.rounded(self.original.make())
