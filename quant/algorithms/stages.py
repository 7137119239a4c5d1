"""What happens to a weight, in the order in which it happens; every algorithm takes part in some of the stages.

1. Smoothing: factors of the input, found for all layers that read it (`Algorithm.smooth`).
2. The range of a static input (`Algorithm.input_range`).
3. A 2:4 mask, and what its survivors become (`Pruning`).
4. Scales, codes and a low-rank branch (`Algorithm.round`, or `round_smoothed` after factors); by default each part's
   own range and the nearest code, which is done when the weight is packed.

With a Hessian each stage makes up for its own losses; without one, the weight alone decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from quant.algorithms.base import Pruned, Rounded
from quant.algorithms.gptq import output_error
from quant.algorithms.table import algorithm_of, options_of, pruning_of
from quant.formats.grid import grid_of
from quant.formats.tensors import by_column
from quant.recipe_parts import Group


def compresses(group: Group) -> bool:
    """Does `compress` have something to do for this group's weights, beyond rounding them to nearest?"""
    return group.sparsity is not None or algorithm_of(group).rounds


def compress(weight: torch.Tensor, group: Group, hessian: torch.Tensor | None) -> Rounded:
    """A weight [N, K] after the last two stages, under the algorithm and the sparsity of a group.

    Args:
        weight: [N, K], float.
        group: of a recipe.
        hessian: [K, K], sum x x^T of the layer's inputs, for what `needs_of` says needs one.
    """
    target = weight.float()
    pruning, algorithm, tensor_format = pruning_of(group), algorithm_of(group), group.scheme.weights
    pruned = Pruned(target, target) if pruning is None else pruning(target, hessian)
    if algorithm.rounds and tensor_format is not None:
        made = algorithm.round(pruned, tensor_format, hessian, options_of(group))
    else:
        made = Rounded(pruned.weight)
    found = made.weight if pruned.mask is None else made.weight * pruned.mask
    made = replace(made, weight=found)
    return replace(made, notes=_notes(target, made, group, hessian))


def round_smoothed(
    weight: torch.Tensor, group: Group, hessian: torch.Tensor, pre_quant_scale: torch.Tensor | None
) -> Rounded | None:
    """A smoothed weight after the last stage: under the Hessian of the inputs that it meets, which are smoothed too.

    Args:
        weight: [N, K], float, as the original's input reads it.
        group: of a recipe whose algorithm smooths.
        hessian: [K, K], sum x x^T of the original's inputs.
        pre_quant_scale: float32, one a channel, or None where smoothing does not help.

    Returns:
        the grid is that of the divided weight, and the weight is the undivided one, as it is packed; None where it is
        rounded to nearest then.
    """
    tensor_format = group.scheme.weights
    assert tensor_format is not None
    k = weight.shape[1]
    factor = weight.new_ones(k).float() if pre_quant_scale is None else by_column(pre_quant_scale.float(), k)
    made = algorithm_of(group).round_smoothed(
        weight.float() / factor, tensor_format, hessian, factor, options_of(group)
    )
    return None if made is None else replace(made, weight=made.weight * factor)


def _notes(target: torch.Tensor, made: Rounded, group: Group, hessian: torch.Tensor | None) -> Mapping[str, Any]:
    if hessian is None:
        return {}
    stored = made.weight
    if made.grid is None and group.scheme.weights is not None:  # rounded to nearest when it is packed
        grid = grid_of(stored, group.scheme.weights)
        stored = grid.values(grid.codes(stored))
    if made.branch is not None:
        stored = stored + made.branch.up @ made.branch.down
    power = float(output_error(target, hessian))
    return {"output_error": (float(output_error(stored - target, hessian)) / power) ** 0.5 if power else 0.0}
