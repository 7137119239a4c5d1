"""One of two ways to compute a layer's output, by the timestep of the call."""

from __future__ import annotations

from collections.abc import Callable

import torch


def by_step(
    precise: bool | torch.Tensor, exact: Callable[[], torch.Tensor], quantized: Callable[[], torch.Tensor]
) -> torch.Tensor:
    """`exact()` where `precise` holds, else `quantized()`; both return one shape and dtype.

    Only one of them runs where the program knows which: outside of torch.compile, and in blocks that are compiled one
    by one, of which there are two graphs then. In a model that is compiled as a whole only the device knows, and
    `torch.cond` runs one of them after a wait for it. A CUDA graph that is captured holds no such wait: it has both.

    Args:
        precise: a tensor without dimensions where only the device knows.
        exact, quantized: of tensors that need no gradient.
    """
    if isinstance(precise, bool):
        return exact() if precise else quantized()
    if torch.compiler.is_compiling():
        found: torch.Tensor = torch.cond(precise, exact, quantized)
        return found
    other = quantized()
    return torch.where(precise.to(other.device), exact(), other)
