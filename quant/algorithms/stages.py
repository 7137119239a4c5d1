"""What happens to a weight, in the order in which it happens; every algorithm takes part in some of the stages.

1. Smoothing: factors of the input, found for all layers that read it (`Algorithm.smooth`).
2. The range of a static input (`Algorithm.input_range`).
3. A 2:4 mask, and what its survivors become (`Pruning`).
4. Scales, codes and a low-rank branch (`Algorithm.round`, or `round_smoothed` after factors); by default each part's
   own range and the nearest code, which is done when the weight is packed.

With a Hessian each stage makes up for its own losses; without one, the weight alone decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch

from quant.algorithms.base import Pruned, Rounded
from quant.algorithms.input_hessian import InputHessian
from quant.algorithms.table import algorithm_of, options_of, pruning_of
from quant.formats.grid import grid_of
from quant.formats.tensors import by_column
from quant.recipe_parts import Group

#: Elements of the weights of one input that are solved at once: half a gigabyte of each tensor of theirs in float32.
_TOGETHER = 1 << 27


def compresses(group: Group) -> bool:
    """Does `compress` have something to do for this group's weights, beyond rounding them to nearest?"""
    return group.sparsity is not None or algorithm_of(group).rounds


def rounds_smoothed(group: Group) -> bool:
    """Are this group's weights rounded otherwise than to nearest once they are smoothed?"""
    return algorithm_of(group).rounds_smoothed(options_of(group))


def compress(weight: torch.Tensor, group: Group, hessian: torch.Tensor | None) -> Rounded:
    """One weight as `compress_together` makes it, for a Hessian [K, K] in any unit."""
    return next(compress_together([weight], group, None if hessian is None else InputHessian(hessian)))


def compress_together(weights: Iterable[torch.Tensor], group: Group, hessian: InputHessian | None) -> Iterator[Rounded]:
    """Weights after the last two stages, under the algorithm and the sparsity of a group.

    Args:
        weights: [N_i, K], float, of layers that read one input; a few are taken at a time.
        group: of a recipe, of all of the layers.
        hessian: of the input, for what `needs_of` says needs one.

    Yields:
        of each weight what became of it, in order.
    """
    pruning, algorithm, tensor_format = pruning_of(group), algorithm_of(group), group.scheme.weights
    for targets in _batches(weights):
        layers = [Pruned(each, each) if pruning is None else pruning(each, hessian) for each in targets]
        if algorithm.rounds and tensor_format is not None:
            made = algorithm.round_together(layers, tensor_format, hessian, options_of(group))
        else:
            made = [Rounded(each.weight) for each in layers]
        for target, layer, rounded in zip(targets, layers, made, strict=True):
            found = rounded if layer.mask is None else replace(rounded, weight=rounded.weight * layer.mask)
            yield replace(found, notes=_notes(target, found, group, hessian))


def round_smoothed(
    weight: torch.Tensor, group: Group, hessian: torch.Tensor, pre_quant_scale: torch.Tensor | None
) -> Rounded | None:
    """One weight as `round_smoothed_together` makes it, for a Hessian [K, K]; None where it is rounded to nearest."""
    if not rounds_smoothed(group):
        return None
    return next(round_smoothed_together([weight], group, InputHessian(hessian), pre_quant_scale))


def round_smoothed_together(
    weights: Iterable[torch.Tensor], group: Group, hessian: InputHessian, pre_quant_scale: torch.Tensor | None
) -> Iterator[Rounded]:
    """Smoothed weights after the last stage: under the Hessian of the inputs that they meet, which are smoothed too.

    Args:
        weights: [N_i, K], float, as the original's input reads them; a few are taken at a time.
        group: of a recipe, of all of the layers; it `rounds_smoothed`.
        hessian: of the original's input.
        pre_quant_scale: float32, one a channel, or None where smoothing does not help.

    Yields:
        of each weight what became of it: the grid is that of the divided weight, and the weight is the undivided one,
        as it is packed.
    """
    tensor_format, factor, smoothed = group.scheme.weights, None, hessian
    assert tensor_format is not None
    for targets in _batches(weights):
        if pre_quant_scale is not None:
            if factor is None:
                factor = by_column(pre_quant_scale.float(), targets[0].shape[1]).to(targets[0].device)
                smoothed = hessian.scaled(factor)
            targets = [target / factor for target in targets]
        made = algorithm_of(group).round_smoothed(targets, tensor_format, smoothed, options_of(group))
        yield from (each if factor is None else replace(each, weight=each.weight * factor) for each in made)


def _batches(weights: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Weights in float32, as many at a time as memory bears; a single one may be larger."""
    batch: list[torch.Tensor] = []
    for weight in weights:
        if batch and sum(each.numel() for each in batch) + weight.numel() > _TOGETHER:
            yield batch
            batch = []
        batch.append(weight.float())
    if batch:
        yield batch


def _notes(target: torch.Tensor, made: Rounded, group: Group, hessian: InputHessian | None) -> Mapping[str, Any]:
    if hessian is None:
        return {}
    stored = made.weight
    if made.grid is None and group.scheme.weights is not None:  # rounded to nearest when it is packed
        grid = grid_of(stored, group.scheme.weights)
        stored = grid.values(grid.codes(stored))
    if made.branch is not None:
        stored = stored + made.branch.up @ made.branch.down
    power = hessian.error(target)
    return {**made.notes, "output_error": (hessian.error(stored - target) / power) ** 0.5 if power else 0.0}
