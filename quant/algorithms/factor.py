"""The triangular factor of a Hessian that GPTQ reads, in float32 where that is accurate enough, else in float64.

With the columns in the order in which they are rounded, from last to first, H + damping = L L^T. A change D of a weight
then costs |D L|^2, whose term for column j has only the columns rounded before j and j itself. So the best value of
column j, given those, is w_j + sum_i D_i L_ij / L_jj over the columns i rounded before, with D_i = w_i - q_i: GPTQ
without the inverse of H (arXiv 2507.18553 shows that it is Babai's nearest plane). One Cholesky factor is found, and
not, as by the paper's own formula, one of H, its inverse, and one of that: a quarter of the work, and less rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from quant.algorithms.hessian import INDEFINITE, damped_diagonal, dampings

Order = Literal["activation", "natural"]
ORDERS: tuple[Order, ...] = ("activation", "natural")

#: What is added to the diagonal of H, times its mean, where a recipe names nothing else.
DAMPING = 0.01
#: By how much a factor in float32 may be off, as `_off` measures. For inputs of many directions that is a few 1e-7, and
#: solutions are those of float64; where all that was seen is 60 tokens, or most of it padding, it is 1e-4, and output
#: errors are no longer the same to 1e-3.
_OFF = 1e-5
_PROBES = 4


@dataclass(frozen=True)
class Factor:
    """How the columns still open answer a change.

    Attributes:
        order: int64 [K], the columns; the last of them is rounded first.
        lower: float32 [K, K], L with each column divided by its own diagonal, columns as in `order`.
        damping: what was added to the diagonal of H, times its mean.
        notes: for the report, empty as a rule: `damping` where it had to be raised; `factor_dtype` and `float32_off`,
            how far off float32 was (None if it found no factor), where float64 was needed.
    """

    order: torch.Tensor
    lower: torch.Tensor
    damping: float
    notes: Mapping[str, Any]


def factorize(hessian: torch.Tensor, single: torch.Tensor, damping: float, order: Order) -> Factor:
    """The factor of H under a damping, which is raised tenfold until there is one.

    Args:
        hessian: float64 [K, K], finite.
        single: the same in float32.
        damping: added to the diagonal of H, times its mean.
        order: "activation" takes the columns with the largest inputs first, "natural" goes from left to right.

    Raises:
        ValueError: not positive definite even with its own mean on its diagonal.
    """
    for tried in dampings(damping):
        diagonal = damped_diagonal(hessian, tried)
        if order == "activation":
            columns = torch.argsort(diagonal, descending=True, stable=True).flip(0)
        else:
            columns = torch.arange(len(diagonal) - 1, -1, -1, device=diagonal.device)
        notes: dict[str, Any] = {} if tried == damping else {"damping": tried}
        lower = _cholesky(single, diagonal, columns)
        off = None if lower is None else _off(lower, hessian, diagonal, columns)
        if lower is None or off is None or not off <= _OFF:
            lower = _cholesky(hessian, diagonal, columns)
            notes |= {"factor_dtype": "float64", "float32_off": off}
        if lower is not None:
            return Factor(columns, lower.div_(lower.diagonal().clone()).float(), tried, notes)
    raise ValueError(INDEFINITE)


def _cholesky(hessian: torch.Tensor, diagonal: torch.Tensor, columns: torch.Tensor) -> torch.Tensor | None:
    """The lower factor of H with another diagonal, columns in the order given; None where there is none."""
    ordered = hessian.index_select(0, columns).index_select(1, columns)
    ordered.diagonal().copy_(diagonal[columns])
    lower: torch.Tensor
    lower, info = torch.linalg.cholesky_ex(ordered)
    return None if info.any() else lower


def _off(lower: torch.Tensor, hessian: torch.Tensor, diagonal: torch.Tensor, columns: torch.Tensor) -> float | None:
    """How far L^-1 H L^-T is from the identity on a few random directions, relative; None where it is not finite.

    There errors are in the unit in which a solution counts them: a direction in which inputs are small weighs as much
    as one in which they are large, and rounding harms only the former.
    """
    generator = torch.Generator("cpu").manual_seed(0)
    probes = torch.randn(len(diagonal), _PROBES, generator=generator, dtype=lower.dtype, device="cpu").to(lower.device)
    change = torch.empty_like(probes, dtype=torch.float64)
    change[columns] = torch.linalg.solve_triangular(lower.T, probes, upper=True).double()
    answer = hessian @ change + (diagonal - hessian.diagonal())[:, None] * change
    found = torch.linalg.solve_triangular(lower, answer[columns].to(lower.dtype), upper=False)
    off = float((found - probes).norm() / probes.norm())
    return off if off < float("inf") else None
