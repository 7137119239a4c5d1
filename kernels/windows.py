"""Where the windows of a convolution lie in its input [B, *spatial, C], and how its output is cut into pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch


class Window(NamedTuple):
    """What each position of a convolution's output sees; one number for each spatial dimension.

    Attributes:
        kernel_size: taps.
        stride: from one position's window to the next one's.
        padding: zeros before the input, and as many behind it.
        dilation: from one tap to the next.
    """

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    @property
    def taps(self) -> int:
        """Elements of a window for each channel."""
        return math.prod(self.kernel_size)

    @property
    def is_pointwise(self) -> bool:
        """Is each position of the output seen by one of the input, the same?"""
        return self.taps == 1 and max(self.stride) == 1 and max(self.padding) == 0

    @property
    def extents(self) -> tuple[int, ...]:
        """From the first tap to the last, both counted."""
        return tuple(step * (taps - 1) + 1 for taps, step in zip(self.kernel_size, self.dilation, strict=True))

    def sizes(self, spatial: Sequence[int]) -> list[int]:
        """Positions of the output of an input of these sizes; less than 1 where no window fits."""
        each = zip(spatial, self.padding, self.extents, self.stride, strict=True)
        return [(size + 2 * zeros - extent) // step + 1 for size, zeros, extent, step in each]

    def padded(self, a: torch.Tensor) -> torch.Tensor:
        """a [B, *spatial, C], contiguous, with zeros round it."""
        if not any(self.padding):
            return a.contiguous()
        sizes = [size + 2 * zeros for size, zeros in zip(a.shape[1:-1], self.padding, strict=True)]
        # As bytes: not every dtype of codes can be copied into a part of another tensor.
        bits = a.view(torch.uint8) if a.itemsize == 1 else a
        whole = bits.new_zeros(a.shape[0], *sizes, a.shape[-1])
        inside = [slice(zeros, zeros + size) for size, zeros in zip(a.shape[1:-1], self.padding, strict=True)]
        whole[:, *inside] = bits
        return whole.view(a.dtype)

    def views(self, padded: torch.Tensor) -> torch.Tensor:
        """The windows of `padded`, without a copy: [B, *out_spatial, *kernel_size, C]."""
        batch, *steps, channel = padded.stride()
        extents, sizes = zip(padded.shape[1:-1], self.extents, self.stride, strict=True), padded.shape
        out = [(size - extent) // step + 1 for size, extent, step in extents]
        moves = [step * by for step, by in zip(steps, self.stride, strict=True)]
        taps = [step * by for step, by in zip(steps, self.dilation, strict=True)]
        return padded.as_strided(
            (sizes[0], *out, *self.kernel_size, sizes[-1]), (batch, *moves, *taps, channel), padded.storage_offset()
        )

    def seen(self, piece: Sequence[slice]) -> tuple[slice, ...]:
        """Where in the padded input the windows of a piece of the output lie, its samples first."""
        samples, *positions = piece
        each = zip(positions, self.stride, self.extents, strict=True)
        return samples, *(slice(at.start * step, (at.stop - 1) * step + extent) for at, step, extent in each)


def stretches(sizes: Sequence[int], most: int) -> Iterator[tuple[slice, ...]]:
    """Boxes that make up an array of these sizes, in its order: each a stretch of it, of `most` elements at the most
    but one at the least.
    """
    if not sizes:
        yield ()
        return
    each = math.prod(sizes[1:])
    if each > most:
        for index in range(sizes[0]):
            for rest in stretches(sizes[1:], most):
                yield slice(index, index + 1), *rest
        return
    step = max(1, most // max(1, each))
    for start in range(0, sizes[0], step):
        yield slice(start, min(start + step, sizes[0])), *(slice(0, size) for size in sizes[1:])
