"""The best values of the weights that pruning leaves, for a mask that is given.

Each row w of a layer has its own survivors S, and its best values are a least-squares problem of its own,
H_SS w_S = (H t)_S with t the row to approximate and H = sum x x^T over the inputs. Factorizing H_SS for every row costs
N * (K/2)^3 / 3; conjugate gradients (Hestenes and Stiefel 1952) solve all rows at once with matmuls, and stop early.
"""

from __future__ import annotations

import torch

from quant.algorithms.hessian import damp


def refit(
    target: torch.Tensor,
    hessian: torch.Tensor,
    mask: torch.Tensor,
    *,
    damping: float = 0.001,
    tolerance: float = 1e-4,
    iterations: int = 1000,
    rows: int = 4096,
) -> torch.Tensor:
    """The weight with zeros where the mask says so that is nearest to `target` under tr(D H D^T), D the difference.

    The error falls with every iteration, so the result is never worse than `target * mask`. An iteration is one float64
    matmul [N, K] @ [K, K], and 30-100 are usual: a weight of 5120 x 13824 takes 2e12 operations for each, seconds on a
    GPU with fast float64, and is too much for a CPU.

    Args:
        target: [N, K], float.
        hessian: [K, K], any unit; symmetric and finite.
        mask: bool [N, K], True where a weight survives; any pattern.
        damping: added to the diagonal of H, times its mean.
        tolerance: a row is done once its gradient, measured in the metric of H's diagonal, is this part of the first.
        iterations: the most that are made, whatever the tolerance; in exact arithmetic as many as survivors suffice.
        rows: worked on at a time; bounds the memory, about 7 float64 tensors [rows, K] besides H.

    Returns:
        float32 [N, K].

    Raises:
        ValueError: a Hessian that is not finite.
    """
    damped = damp(hessian, damping)
    parts = zip(torch.split(target, rows), torch.split(mask, rows), strict=True)
    return torch.cat([_conjugate_gradients(part.double(), damped, kept, tolerance, iterations) for part, kept in parts])


def _conjugate_gradients(
    target: torch.Tensor, hessian: torch.Tensor, mask: torch.Tensor, tolerance: float, iterations: int
) -> torch.Tensor:
    """All rows at once, each preconditioned by the diagonal of H and restricted to its survivors by its mask."""
    scale = mask / hessian.diagonal()  # also what keeps every step on the survivors
    weight = target * mask
    residual = ((target - weight) @ hessian) * mask
    step = residual * scale
    size = (residual * step).sum(dim=1, keepdim=True)
    enough = size * tolerance**2
    for _ in range(iterations):
        # A row that is done stands still: its next lengths would be 0 / 0.
        going = size > enough
        if not going.any():
            break
        ahead = (step @ hessian) * mask
        curvature = (step * ahead).sum(dim=1, keepdim=True)
        going &= curvature > 0  # rounding leaves no more where inputs span few directions
        length = torch.where(going, size / curvature, 0)
        weight += length * step
        residual -= length * ahead
        downhill = residual * scale
        new = (residual * downhill).sum(dim=1, keepdim=True)
        step = downhill + torch.where(going, new / size, 0) * step
        size = new
    return weight.float()
