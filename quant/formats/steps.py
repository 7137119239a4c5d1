"""Steps of the noise schedule at which a layer's input is not quantized."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PreciseSteps:
    """Where a layer multiplies its input as it comes by the weight that its codes mean: at both ends of the schedule.

    Attributes:
        above: at timesteps above this one, in the numbers that the model is called with; None at none.
        up_to: at timesteps up to this one, too; None at none.
        first, last: how many first and last steps these are of the schedule that they were chosen for.
        of: how many steps it has.
    """

    above: float | None
    up_to: float | None
    first: int
    last: int
    of: int

    @overload
    def holds(self, timestep: float) -> bool: ...
    @overload
    def holds(self, timestep: torch.Tensor) -> torch.Tensor: ...
    def holds(self, timestep: float | torch.Tensor) -> bool | torch.Tensor:
        """Return whether a timestep is one of those."""
        above = math.inf if self.above is None else self.above
        up_to = -math.inf if self.up_to is None else self.up_to
        return (timestep > above) | (timestep <= up_to)

    @property
    def label(self) -> str:
        """In words for tables, such as "inputs as they are in the first 3 and last 2 of 50 steps"."""
        ends = " and ".join(f"{end} {count}" for end, count in (("first", self.first), ("last", self.last)) if count)
        return f"inputs as they are in the {ends} of {self.of} steps"
