"""What the algorithms found for one layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from quant.algorithms.base import Rounded
from quant.formats.grid import Grid
from quant.formats.layer import LayerForm
from quant.formats.tensors import LowRank
from quant.recipe_parts import Group


@dataclass(frozen=True)
class Solution:
    """One layer's, small enough to be kept for every layer at once; the weight is made when it is asked for.

    Attributes:
        input_scale: float32 [1] where the scheme's input is static.
        pre_quant_scale: float32 [K] where smoothing helps.
        notes: figures for the report, such as the smoothing strength.
        make: given the original weight, gives what is packed instead of it, on the CPU: compensated, pruned, or on
            scales of its own. None where the original is packed.
        grid: scales of the weight, where an algorithm chose them; of the weight divided by `pre_quant_scale`.
        low_rank: a branch beside the weight.
    """

    input_scale: torch.Tensor | None = None
    pre_quant_scale: torch.Tensor | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    make: Callable[[torch.Tensor], Rounded] | None = None
    grid: Grid | None = None
    low_rank: LowRank | None = None

    def rounded(self, original: torch.Tensor) -> Rounded:
        """The weight that is packed and the scales that were chosen for it, on the CPU."""
        return Rounded(original.cpu(), self.grid) if self.make is None else self.make(original)

    def form(self, group: Group) -> LayerForm:
        """What the layer is stored as."""
        rank = 0 if self.low_rank is None else self.low_rank.rank
        return replace(group.form, smoothed=self.pre_quant_scale is not None, rank=rank)

    def around(self, dtype: torch.dtype) -> dict[str, Any]:
        """The keywords of `small_tensors`, but for the grid; a branch is stored in the model's `dtype`."""
        branch = self.low_rank
        return {
            "input_scale": self.input_scale,
            "pre_quant_scale": self.pre_quant_scale,
            "low_rank": None if branch is None else LowRank(branch.up.to(dtype), branch.down.to(dtype)),
        }
