"""2:4 sparsity: which two of every four weights stay, so that the layer's output changes least.

The squared error of a pruned layer's output is tr(D H D^T), with D = target - weight [N, K] and H = sum x x^T [K, K]
over its inputs. Magnitude and Wanda (arXiv 2306.11695) look at one weight at a time. SparseGPT (arXiv 2301.00774)
decides group after group, and what a group loses can only be made up for by the columns after it. ADMM (as ALPS, arXiv
2406.07831) sees all groups at once; with the survivors then solved for exactly it is the best of them, by far.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.algorithms.hessian import damp, inverse_factor
from quant.algorithms.survivors import refit

GROUP = 4
_KEPT = 2
#: What is added to the diagonal of H, times its mean, by SparseGPT and by ADMM.
SPARSEGPT_DAMPING, SEARCH_DAMPING = 0.01, 0.001
#: First and last penalty of ADMM, where H's diagonal is 1: from one that hardly pulls to one that no weight resists.
_PENALTIES = (0.01, 1.0)


def magnitude_mask(weight: torch.Tensor) -> torch.Tensor:
    """The two largest of every aligned four columns; of equal ones the first.

    Args:
        weight: [N, K], float, K a multiple of 4.

    Returns:
        bool [N, K], exactly two True in every four.

    Raises:
        ValueError: a K that is no multiple of 4.
    """
    n, k = weight.shape
    _check(k)
    groups = weight.abs().reshape(n, k // GROUP, GROUP)
    largest = groups.argsort(dim=2, descending=True, stable=True)[:, :, :_KEPT]
    return torch.zeros_like(groups, dtype=torch.bool).scatter_(2, largest, True).reshape(n, k)


def wanda_mask(weight: torch.Tensor, hessian_diagonal: torch.Tensor) -> torch.Tensor:
    """The two of every four columns with the largest |W_ij| * |x_j|, Wanda's score (arXiv 2306.11695).

    Args:
        weight: [N, K], float, K a multiple of 4.
        hessian_diagonal: [K], sum of x_j^2 over the inputs.

    Returns:
        bool [N, K], exactly two True in every four.

    Raises:
        ValueError: a K that is no multiple of 4.
    """
    return magnitude_mask(weight * hessian_diagonal.sqrt())


def sparsegpt(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    *,
    damping: float = SPARSEGPT_DAMPING,
    block: int = 128,
    factor: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """SparseGPT (arXiv 2301.00774, algorithm 1) for 2:4, to compare with; `prune` comes closer.

    When a group of four columns is reached, the two with the smallest w^2 / [H^-1]_jj^2 go, and what they
    contributed is spread over the columns to their right.

    Args:
        weight: [N, K], float, K a multiple of 4.
        hessian: [K, K], sum x x^T of the layer's inputs in any unit; symmetric and finite.
        damping: as in `gptq.solve`.
        block: columns between two updates of all that follow, a multiple of 4; changes the speed and nothing else.
        factor: `inverse_factor` of H under this damping, if it was found already.

    Returns:
        mask bool [N, K], exactly two True in every four; the compensated weight float32 [N, K], 0 where pruned.

    Raises:
        ValueError: a K that is no multiple of 4, or a Hessian that is not finite.
    """
    _check(weight.shape[1])
    work = weight.double().clone()
    factor = inverse_factor(hessian, damping) if factor is None else factor
    mask = torch.zeros_like(work, dtype=torch.bool)
    for start in range(0, work.shape[1], block):
        end = min(start + block, work.shape[1])
        lost = torch.zeros_like(work[:, start:end])
        for j in range(start, end):
            if j % GROUP == 0:
                group = slice(j, j + GROUP)
                mask[:, group] = magnitude_mask(work[:, group] / factor.diagonal()[group])
            error = work[:, j] * ~mask[:, j] / factor[j, j]
            work[:, j:end] -= torch.outer(error, factor[j, j:end])
            lost[:, j - start] = error
        work[:, end:] -= lost @ factor[start:end, end:]
    return mask, (work * mask).float()


class Basis(NamedTuple):
    """H with damping in the unit in which its diagonal is 1, diagonalized.

    Attributes:
        unit: float64 [K], roots of the damped diagonal.
        values: float32 [K], its eigenvalues, and `vectors`, [K, K].
    """

    unit: torch.Tensor
    values: torch.Tensor
    vectors: torch.Tensor


def basis_of(hessian: torch.Tensor, damping: float) -> Basis:
    """The basis in which ADMM's solves are divisions; ten times a Cholesky factor's work.

    Raises:
        ValueError: a Hessian that is not finite.
    """
    damped = damp(hessian, damping)
    unit = damped.diagonal().sqrt()
    values, vectors = torch.linalg.eigh(damped / torch.outer(unit, unit))
    return Basis(unit, values.clamp(min=0).float(), vectors.float())


def admm_mask(
    target: torch.Tensor,
    hessian: torch.Tensor,
    *,
    damping: float = SEARCH_DAMPING,
    iterations: int = 100,
    basis: Basis | None = None,
) -> torch.Tensor:
    """The mask that ADMM settles on: a dense weight of least error is pulled to its own 2:4 projection, ever harder.

    As ALPS (arXiv 2406.07831), which prunes without a pattern: columns are scaled so that the diagonal of H is 1, and
    one eigendecomposition of H serves all iterations. It is float64; the rest, where only the order of sizes matters,
    is float32. The penalty grows geometrically.

    Args:
        target: [N, K], float, the weight to approximate, K a multiple of 4.
        hessian, damping: as in `sparsegpt`.
        iterations: each costs two float32 matmuls [N, K] @ [K, K]; ten times as many take 1-5% off the error.
        basis: `basis_of` H under this damping, if it was found already.

    Returns:
        bool [N, K], exactly two True in every four.

    Raises:
        ValueError: a K that is no multiple of 4, or a Hessian that is not finite.
    """
    _check(target.shape[1])
    unit, values, vectors = basis_of(hessian, damping) if basis is None else basis
    scaled = (target.double() * unit).float()
    mask = magnitude_mask(scaled)
    # In the basis of H's eigenvectors the solve is a division.
    pull = (scaled @ vectors) * values
    sparse, dual = scaled * mask, torch.zeros_like(scaled)
    first, last = _PENALTIES
    for i in range(iterations):
        penalty = first * (last / first) ** (i / max(iterations - 1, 1))
        dense = ((pull + penalty * ((sparse - dual) @ vectors)) / (values + penalty)) @ vectors.T
        wished = dense + dual
        mask = magnitude_mask(wished)
        sparse = wished * mask
        dual = wished - sparse
    return mask


def prune(
    target: torch.Tensor,
    hessian: torch.Tensor,
    *,
    damping: float = SEARCH_DAMPING,
    iterations: int = 100,
    basis: Basis | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """A mask by ADMM, and the exact best survivors for it. In no row worse than magnitude on tr(D H D^T).

    Args:
        target: [N, K], float, the weight to approximate, K a multiple of 4.
        hessian, damping, iterations, basis: as in `admm_mask`.

    Returns:
        mask bool [N, K], exactly two True in every four; weight float32 [N, K], 0 where pruned.

    Raises:
        ValueError: a K that is no multiple of 4, or a Hessian that is not finite.
    """
    mask = admm_mask(target, hessian, damping=damping, iterations=iterations, basis=basis)
    weight = refit(target, hessian, mask, damping=damping)
    simple = magnitude_mask(target)
    plain = (target * simple).float()
    # Nothing promises that ADMM beats magnitude, least of all where damping outweighs what inputs were seen.
    worse = _row_errors(target - weight, hessian) > _row_errors(target - plain, hessian)
    rows = worse[:, None]
    return torch.where(rows, simple, mask), torch.where(rows, plain, weight)


def _check(columns: int) -> None:
    if columns % GROUP:
        raise ValueError(f"2:4 needs a multiple of {GROUP} columns, got {columns}")


def _row_errors(difference: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """The diagonal of D H D^T, float64 [N]."""
    difference = difference.double()
    return ((difference @ hessian.double()) * difference).sum(dim=1)
