"""A branch of low rank next to the compressed weight: y = Q x + L1 (L2 x), as in SVDQuant (arXiv 2411.05007).

What Q lacks, R = W - Q, is put into L1 L2 where the inputs make it count. With H = S S^T, the error of a rank-r branch
is the Frobenius norm of (R - L1 L2) S, so the best branch is the truncated SVD of R S with S divided out again
(LQER, arXiv 2402.02446; CALDERA, arXiv 2405.18886). It serves a 2:4 weight as well as a rounded one.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from quant.algorithms.gptq import output_error
from quant.algorithms.hessian import lower_factor

#: What is added to the diagonal of H, times its mean.
BRANCH_DAMPING = 1e-6


def branch(
    residual: torch.Tensor,
    hessian: torch.Tensor | None,
    rank: int,
    damping: float = BRANCH_DAMPING,
    root: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best approximation of a residual by a matrix of given rank, under tr(D H D^T).

    Args:
        residual: [N, K], float.
        hessian: [K, K], sum x x^T of the layer's inputs; None weighs all inputs alike.
        rank: at least 1, at most min(N, K).
        damping: added to the diagonal of H, times its mean, so that inputs never seen do not divide by zero. Raised
            tenfold until H is positive definite, where inputs span so few directions that rounding decides.
        root: `lower_factor` of H under this damping, if it was found already.

    Returns:
        float32 (L1 [N, rank], L2 [rank, K]), of equal norms for each of the ranks.

    Raises:
        ValueError: a rank that does not fit.
    """
    n, k = residual.shape
    if not 1 <= rank <= min(n, k):
        raise ValueError(f"rank must be 1 to {min(n, k)} for a weight of {n} x {k}, got {rank}")
    if hessian is None:
        root = torch.eye(k, dtype=torch.float64, device=residual.device)
    elif root is None:
        root = lower_factor(hessian, damping)
    left, values, right = torch.linalg.svd(residual.double() @ root, full_matrices=False)
    up = left[:, :rank] * values[:rank]
    down = torch.linalg.solve_triangular(root, right[:rank], upper=False, left=False)
    balance = (up.norm(dim=0) / down.norm(dim=1).clamp(min=1e-30)).sqrt().clamp(min=1e-30)
    return (up / balance).float(), (down * balance[:, None]).float()


def alternate(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    rank: int,
    compress: Callable[[torch.Tensor], torch.Tensor],
    rounds: int = 3,
    root: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A compressed weight and a branch that fit each other: compress W - L1 L2, refit the branch to W - Q, and again.

    Args:
        weight: [N, K], float.
        hessian: [K, K], sum x x^T of the layer's inputs.
        rank: of the branch.
        compress: a float weight [N, K] to its compressed values [N, K], such as `gptq.solve` on a fresh grid.
        rounds: how often; the best of them is kept, for compressing may get worse.
        root: as in `branch`, under its own damping.

    Returns:
        float32 (Q [N, K], L1 [N, rank], L2 [rank, K]).
    """
    root = lower_factor(hessian, BRANCH_DAMPING) if root is None else root
    start = branch(weight, hessian, rank, root=root)
    best: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None = None
    least = float("inf")
    # Both starts: outliers into the branch first (SVDQuant), and what rounding leaves over (LQER).
    for up, down in (start, (torch.zeros_like(start[0]), torch.zeros_like(start[1]))):
        for _ in range(rounds):
            compressed = compress(weight.float() - up @ down)
            up, down = branch(weight.float() - compressed, hessian, rank, root=root)
            error = float(output_error(weight.float() - compressed - up @ down, hessian))
            if best is None or error < least:
                best, least = (compressed, up, down), error
    assert best is not None
    return best
