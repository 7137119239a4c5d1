"""The gradient of a quantized layer: that of the layer with the weight that its codes mean.

Rounding has no gradient, so codes pass none on: backward takes the layer as y = x @ W.T + bias of the dequantized W, or
as the convolution with W, also where a static input was clipped (the straight-through estimator; Bengio et al. 2013,
arXiv 1308.3432). W is made when backward runs and is not kept between forward and backward.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch


class Packed(Protocol):
    """What is asked of a quantized layer: its tensors, what it computes of them, and the weight that they mean."""

    def held(self) -> dict[str, torch.Tensor]: ...

    def multiply(
        self,
        x: torch.Tensor,
        bias: torch.Tensor | None,
        residual: torch.Tensor | None,
        out_dtype: torch.dtype,
        dtype: torch.dtype,
    ) -> torch.Tensor: ...

    def dequantized(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor: ...

    def input_gradient(self, grad: torch.Tensor, weight: torch.Tensor, shape: torch.Size) -> torch.Tensor: ...


def straight_through(
    layer: Packed,
    x: torch.Tensor,
    bias: torch.Tensor | None,
    branch: torch.Tensor | None,
    out_dtype: torch.dtype,
    dtype: torch.dtype,
) -> torch.Tensor:
    """`layer.multiply` with gradients to x, bias and branch; the product of backward is made in `dtype`."""
    found: torch.Tensor = _StraightThrough.apply(x, bias, branch, layer, out_dtype, dtype)  # type: ignore[no-untyped-call]
    return found


class _StraightThrough(torch.autograd.Function):
    """Dynamo traces both of its directions, so that a compiled model has the gradient too."""

    @staticmethod
    def forward(
        x: torch.Tensor,
        bias: torch.Tensor | None,
        branch: torch.Tensor | None,
        layer: Packed,
        out_dtype: torch.dtype,
        dtype: torch.dtype,
    ) -> torch.Tensor:
        return layer.multiply(x, bias, branch, out_dtype, dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        x, bias, branch, layer, _, dtype = inputs
        held = layer.held()
        # Saved and not looked up later: a layer may be moved or offloaded before backward.
        ctx.save_for_backward(*held.values())
        ctx.names, ctx.layer, ctx.dtype, ctx.shape = tuple(held), layer, dtype, x.shape
        ctx.dtypes = tuple(None if each is None else each.dtype for each in (x, bias, branch))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad = grads[0]
        found: list[torch.Tensor | None] = [None, None, None]
        x_dtype, bias_dtype, branch_dtype = ctx.dtypes
        if ctx.needs_input_grad[0]:
            weight = ctx.layer.dequantized(dict(zip(ctx.names, ctx.saved_tensors, strict=True)))
            made = ctx.layer.input_gradient(grad.to(ctx.dtype), weight.to(ctx.dtype), ctx.shape)
            found[0] = made.to(x_dtype)
        if ctx.needs_input_grad[1]:
            found[1] = grad.sum(tuple(range(grad.ndim - 1)), dtype=torch.float32).to(bias_dtype)
        if ctx.needs_input_grad[2]:
            found[2] = grad.to(branch_dtype)
        return (*found, None, None, None)
