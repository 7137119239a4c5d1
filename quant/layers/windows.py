"""A convolution's windows, and those that are rows [..., K] of a matmul with its weight [N, K] as they lie.

Inputs are channels-last, [B, *S, C], and K has all channels of the first tap of a window, then those of the next: where
a window is long in one direction at most and that one is next to the channels, its row is a stretch of the input.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from quant.kernels.windows import Window


def window_of(conv: nn.Module) -> Window:
    """The window of a convolution, whose `padding` is numbers or "valid", or "same" and alike on both sides."""
    found: Any = conv
    kernel_size, dilation, padding = tuple(found.kernel_size), tuple(found.dilation), found.padding
    if padding == "valid":
        padding = (0,) * len(kernel_size)
    elif padding == "same":
        padding = tuple(step * (taps - 1) // 2 for taps, step in zip(kernel_size, dilation, strict=True))
    return Window(kernel_size, tuple(found.stride), tuple(padding), dilation)


def rows_of_line(x: torch.Tensor, window: Window) -> torch.Tensor:
    """All windows over [B, *S, C] of one that is long in one direction at most: [B, R, P, K].

    P goes along that direction and R along all others; `from_lines` puts what is made of them into the order of the
    output. A view where x lies so.
    """
    axis, x = _axis(window), padded(x, window)
    for i, step in enumerate(window.stride):
        if i != axis and step > 1:
            x = x[(slice(None),) * (i + 1) + (slice(None, None, step),)]
    x = x.movedim(axis + 1, -2)
    x = x.reshape(x.shape[0], math.prod(x.shape[1:-2]), *x.shape[-2:])
    views = x.unfold(2, window.extents[axis], window.stride[axis])[..., :: window.dilation[axis]]
    return views.movedim(-1, -2).flatten(-2)


def from_lines(out: torch.Tensor, window: Window, size: list[int]) -> torch.Tensor:
    """The output [B, *S, N] of [B, R, P, N], which the rows of `rows_of_line` became; `size` is its S."""
    axis = _axis(window)
    others = [length for i, length in enumerate(size) if i != axis]
    return out.reshape(out.shape[0], *others, size[axis], out.shape[-1]).movedim(-2, axis + 1)


def sampled(x: torch.Tensor, window: Window, count: int, generator: torch.Generator) -> torch.Tensor:
    """`count` windows [count, K] over [B, *S, C], drawn evenly from all; all of them in order where there are fewer."""
    size, dims = (x.shape[0], *window.sizes(x.shape[1:-1])), len(window.kernel_size)
    total = math.prod(size)
    if count < total:
        chosen = torch.randint(total, (count,), generator=generator, device="cpu").to(x.device)
    else:
        chosen = torch.arange(total, device=x.device)
    sample, *places = (place.reshape(-1, *[1] * dims) for place in torch.unravel_index(chosen, size))
    index = [sample]
    for i, (taps, step, apart) in enumerate(zip(window.kernel_size, window.stride, window.dilation, strict=True)):
        shape = [taps if i == direction else 1 for direction in range(dims)]
        index.append(places[i] * step + (torch.arange(taps, device=x.device) * apart).reshape(1, *shape))
    return padded(x, window)[tuple(index)].reshape(len(chosen), -1)


def padded(x: torch.Tensor, window: Window) -> torch.Tensor:
    """[B, *S, C] with zeros around it."""
    around = [zeros for zeros in reversed(window.padding) for _ in range(2)]
    return F.pad(x, (0, 0, *around)) if any(around) else x


def _axis(window: Window) -> int:
    """The direction in which a window is long: the last where it is a single position."""
    return next((i for i, taps in enumerate(window.kernel_size) if taps > 1), len(window.kernel_size) - 1)
