"""What one stored layer is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from quant.formats.scheme import Scheme
from quant.formats.steps import PreciseSteps

SPARSITY = "2:4"
#: Into so many parts a noise schedule is cut at most: samplers make few more steps.
MOST_BINS = 64


@dataclass(frozen=True)
class LayerFormat:
    """A layer of a checkpoint: its scheme, and what it has besides.

    Attributes:
        scheme: formats of weight and input.
        smoothed: it has a `pre_quant_scale`, by which the input is multiplied.
        sparse: two of every four neighbouring columns of each row are zero.
        rank: of its low-rank branch in high precision, which is added to the output; 0 for none.
        kernel_size: of a convolution, whose matrix [N, K] has all input channels of the first tap of its window, then
            those of the next; () of a layer that multiplies its input as it comes.
        bins: into how many the noise schedule is cut, each with an `input_scale` of its own; 1 for one scale.
        steps: of the noise schedule, at which its input is not quantized; None where it is at every one.
    """

    scheme: Scheme
    smoothed: bool = False
    sparse: bool = False
    rank: int = 0
    kernel_size: tuple[int, ...] = ()
    bins: int = 1
    steps: PreciseSteps | None = None

    @property
    def by_timestep(self) -> bool:
        """Does what it computes depend on the timestep that its model is called with?"""
        return self.bins > 1 or self.steps is not None

    @property
    def taps(self) -> int:
        """Columns of the weight for each channel of the input."""
        return math.prod(self.kernel_size)

    @property
    def directions(self) -> int:
        """In how many directions of the input its window is longer than one position."""
        return sum(size > 1 for size in self.kernel_size)

    @property
    def is_plain(self) -> bool:
        """True where any reader of compressed-tensors computes the same: it has nothing besides the scheme that
        such a reader would not know. Zeros of a sparse weight are stored as zeros."""
        return not self.smoothed and not self.rank and not self.kernel_size and not self.by_timestep

    @property
    def label(self) -> str:
        """In words for tables, such as "2:4 FP8_DYNAMIC + rank 16", or "FP8 in 4 bins"."""
        if not self.sparse:
            name = self.scheme.name
        else:
            name = SPARSITY if self.scheme.weights is None else f"{SPARSITY} {self.scheme.name}"
        name = f"{name} in {self.bins} bins" if self.bins > 1 else name
        name = f"{name} + rank {self.rank}" if self.rank else name
        return f"{name}, {self.steps.label}" if self.steps is not None else name
