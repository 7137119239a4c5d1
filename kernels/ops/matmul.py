"""What the matmuls have in common: how they end, and their operands as rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch

from quant.kernels.arguments import Epilogue

#: The parameters that every matmul has, in a schema.
ENDING = "Tensor? bias, str activation, Tensor? residual, Tensor? gate, ScalarType out_dtype, Tensor? out_scale"


class Ending(Protocol):
    """What follows the sums of every matmul, of its arguments."""

    @property
    def bias(self) -> torch.Tensor | None: ...
    @property
    def activation(self) -> str: ...
    @property
    def residual(self) -> torch.Tensor | None: ...
    @property
    def gate(self) -> torch.Tensor | None: ...
    @property
    def out_dtype(self) -> torch.dtype: ...
    @property
    def out_scale(self) -> torch.Tensor | None: ...


def epilogue(
    ending: Ending,
    a: torch.Tensor,
    n: int,
    a_scale: torch.Tensor | None,
    b_scale: torch.Tensor | None,
    *,
    fast_accumulate: bool = False,
) -> Epilogue:
    """The epilogue of a [..., K] and a weight of n rows, its operands as rows; a scale that there is not is 1."""
    scales = _or_one(a_scale, a.device)
    scales = scales.reshape(1, 1) if scales.numel() == 1 else scales.reshape(-1, scales.shape[-1])
    shape = [*a.shape[:-1], n]
    return Epilogue(
        scales,
        _or_one(b_scale, a.device),
        ending.bias,
        ending.activation,
        _expanded(ending.residual, shape),
        _expanded(ending.gate, shape),
        ending.out_dtype,
        ending.out_scale,
        fast_accumulate and a.dtype == torch.float8_e4m3fn,
    )


def on_rows(run: Callable[..., Any], a: torch.Tensor, n: int, *others: Any) -> torch.Tensor:
    """Runs an implementation of a matmul on the rows of a [..., K]: out [..., n]."""
    out: torch.Tensor = run(a.reshape(-1, a.shape[-1]), *others)
    return out.reshape(*a.shape[:-1], n)


def rows_of(x: torch.Tensor) -> int:
    """M of x [..., K]."""
    return x.numel() // max(x.shape[-1], 1)


def columns_of_group(k: int, groups: int) -> int:
    """Columns that share a scale, 0 where a row has one."""
    return 0 if groups == 1 else k // groups


def _or_one(scale: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    return torch.ones(1, 1, device=device) if scale is None else scale


def _expanded(x: torch.Tensor | None, shape: Sequence[int]) -> torch.Tensor | None:
    """`x` broadcast to `shape`: a view, in which leading dimensions may have stride 0 but the last has not."""
    if x is None:
        return None
    if x.ndim == 0 or x.shape[-1] != shape[-1]:
        x = x.expand(*x.shape[:-1], shape[-1])
    return (x if x.stride(-1) == 1 else x.contiguous()).expand(shape)
