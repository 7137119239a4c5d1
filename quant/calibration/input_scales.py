"""The scales of a static input: one, or one in each bin of the noise schedule."""

from __future__ import annotations

from dataclasses import replace

import torch

from quant.algorithms.base import Statistics
from quant.algorithms.bins import choose_bins
from quant.algorithms.table import algorithm_of, options_of
from quant.formats.eight_bit import scale_from_amax, storage_dtype
from quant.recipe_parts import Group


def input_scale(
    group: Group, seen: Statistics, factor: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The scales of a layer's input, by its group's algorithm.

    Args:
        group: of a scheme with a static input.
        seen: of the input, with what `needs_of` asks for.
        factor: float32 [C], by which the input is multiplied; None where it is not smoothed.

    Returns:
        float32 [1] and None; or [B, 1] and the edges between bins, float32 [B-1].
    """
    inputs = group.scheme.input_activations
    assert inputs is not None
    dtype, algorithm, options = storage_dtype(inputs), algorithm_of(group), options_of(group)
    if factor is not None:
        assert seen.channel_amax is not None
        return scale_from_amax((seen.channel_amax * factor).amax().reshape(1), dtype), None
    if seen.amax_by_timestep is None or group.bins == 1:
        return scale_from_amax(algorithm.input_range(seen, inputs, options), dtype), None
    bins = choose_bins(seen.amax_by_timestep, group.bins)
    ranges = [algorithm.input_range(replace(seen, amax=amax), inputs, options) for amax in torch.split(bins.amax, 1)]
    scale = scale_from_amax(torch.cat(ranges), dtype)
    return (scale, None) if len(scale) == 1 else (scale.reshape(-1, 1), bins.edges)
