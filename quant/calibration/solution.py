"""What the algorithms found for one layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from quant.algorithms.base import Rounded
from quant.algorithms.stages import compress, compresses
from quant.algorithms.table import needs_of
from quant.formats.grid import Grid
from quant.formats.layer import LayerFormat
from quant.formats.steps import PreciseSteps
from quant.formats.tensors import LowRank, by_column
from quant.recipe_parts import Group


@dataclass(frozen=True)
class KeptWeight:
    """A solved weight that lies in a file, so that memory stays bounded.

    Attributes:
        path, name: the file in safetensors, and the tensor in it.
        grid: where the tensor is codes, the grid they are on.
        factor: float32 [K], or one a channel, what the values of codes are multiplied by: smoothing is undone.
    """

    path: Path
    name: str
    grid: Grid | None = None
    factor: torch.Tensor | None = None

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Rows start to stop of the weight [N, K]; where blocks of rows share scales, `start` is the first of one."""
        with safe_open(self.path, framework="pt") as file:
            tensor: torch.Tensor = file.get_slice(self.name)[start:stop]
        values = tensor if self.grid is None else self.grid.rows(start, stop).values(tensor)
        return values if self.factor is None else values * by_column(self.factor, values.shape[1])


@dataclass(frozen=True)
class Solution:
    """One layer's, small enough to be kept for every layer at once.

    Attributes:
        input_scale: float32 [1] where the scheme's input is static, [B, 1] where it has bins.
        pre_quant_scale: float32, one a feature or channel of the input, where smoothing helps.
        notes: figures for the report, such as the smoothing strength.
        weight: [N, K] on the CPU, what is packed instead of the original: compensated, pruned, or on scales of its own;
            None where the original is packed, or what its group makes of it without any data.
        grid: scales of the weight, where an algorithm chose them; of the weight divided by `pre_quant_scale`.
        low_rank: a branch to be added to what the weight gives.
        bin_edges: float32 [B-1], the timesteps between bins, where there are several.
        steps: at which its input is not quantized, of the schedule that is run; None where it is at every one.
    """

    input_scale: torch.Tensor | None = None
    pre_quant_scale: torch.Tensor | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    weight: torch.Tensor | KeptWeight | None = None
    grid: Grid | None = None
    low_rank: LowRank | None = None
    bin_edges: torch.Tensor | None = None
    steps: PreciseSteps | None = None

    def rounded(self, original: torch.Tensor, group: Group, start: int = 0) -> Rounded:
        """Rows of the weight that is packed and the scales that were chosen for them, on the CPU.

        Args:
            original: [R, K], some rows of the original weight, on any device.
            group: of the layer. What needs no data is done here, when the layer is written: no model may be loaded.
            start: the number of the first row; where blocks of rows share scales, the first of one.
        """
        stop = start + len(original)
        grid = None if self.grid is None else self.grid.rows(start, stop)
        if isinstance(self.weight, KeptWeight):
            return Rounded(self.weight.read(start, stop), grid)
        if self.weight is not None:
            return Rounded(self.weight[start:stop], grid)
        if compresses(group) and not needs_of(group).hessian:
            return compress(original.cpu(), group, None)
        return Rounded(original.cpu(), grid)

    def layer_format(self, planned: LayerFormat) -> LayerFormat:
        """What the layer is stored as, of what was planned before anything was found."""
        rank = 0 if self.low_rank is None else self.low_rank.rank
        bins = 1 if self.bin_edges is None else len(self.bin_edges) + 1
        return replace(planned, smoothed=self.pre_quant_scale is not None, rank=rank, bins=bins, steps=self.steps)

    def around(self, dtype: torch.dtype) -> dict[str, Any]:
        """The keywords of `small_tensors`, but for the grid; a branch is stored in the model's `dtype`."""
        branch = self.low_rank
        return {
            "input_scale": self.input_scale,
            "bin_edges": self.bin_edges,
            "pre_quant_scale": self.pre_quant_scale,
            "low_rank": None if branch is None else LowRank(branch.up.to(dtype), branch.down.to(dtype)),
        }
