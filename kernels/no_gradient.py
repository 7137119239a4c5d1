"""What autograd knows of the ops: that they have no gradient.

Left alone it would record the reference's rounding, whose gradient is 0, or drop that of a kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch.autograd import forward_ad


def gradient_wanted(*args: Any) -> bool:
    """Does autograd record what happens to one of these? In forward mode it may be any, so all count."""
    if forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(isinstance(each, torch.Tensor) and each.requires_grad for each in args)


def without_gradient(op: Callable[..., Any], *args: Any) -> Any:
    """op(*args). Where autograd records and an operand needs a gradient, backward raises NotImplementedError."""
    if gradient_wanted(*args):
        return _NoGradient.apply(op, *args)  # type: ignore[no-untyped-call]
    return op(*args)


def refuse_gradient(name: str, *args: Any) -> None:
    """Raises NotImplementedError at once, for callers of `torch.ops` who go past `without_gradient`."""
    if gradient_wanted(*args):
        _refuse(name)


class _NoGradient(torch.autograd.Function):
    """Results that need a gradient wherever an operand does: scales too, since INT8 codes cannot carry the need on."""

    @staticmethod
    def forward(op: Callable[..., Any], *args: Any) -> Any:
        return op(*args)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.name = str(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> NoReturn:
        _refuse(ctx.name)


def _refuse(name: str) -> NoReturn:
    raise NotImplementedError(
        f"{name} has no gradient, for it rounds: run a quantized layer as a whole (QuantLinear), whose backward gives "
        "the straight-through one, or run this op under torch.no_grad()"
    )
