"""The Hessian H = sum x x^T of a layer's inputs made fit to be factorized, whatever the inputs were.

H is a sum of products, so no eigenvalue is negative, but rounding makes some of them slightly so where inputs span few
directions, as a few text tokens or a time embedding do. What is added to the diagonal keeps them positive.
"""

from __future__ import annotations

import torch


def in_unit(hessian: torch.Tensor) -> torch.Tensor:
    """H in another unit: divided by a power of four next to its largest element, which no bit of a result sees.

    Of four, because solutions read the roots of H, whose unit is then a power of two.

    Inputs of 1e19 have squares that float32 does not hold, and those of 1e-23 squares that it takes for 0; no solution
    depends on the unit of H.

    Raises:
        ValueError: not finite.
    """
    h = _finite(hessian.double())
    _, exponent = torch.frexp(torch.stack(torch.aminmax(h)).abs().amax())
    shift = -(exponent + exponent % 2)
    return torch.ldexp(h, shift) if shift else h


def damp(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """H in float64 with `damping` times the mean of its diagonal added to it; 1 on it for inputs never seen.

    Raises:
        ValueError: not finite.
    """
    h = _finite(hessian.double().clone())
    h.diagonal().copy_(damped_diagonal(h, damping))
    return h


def damped_diagonal(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """The diagonal of `damp`, float64 [K]."""
    diagonal = hessian.diagonal().double()
    diagonal = diagonal + damping * diagonal.mean()
    return torch.where(diagonal == 0, 1.0, diagonal)


def lower_factor(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """Lower L with H + damping = L L^T, float64. Damping is raised tenfold until there is one.

    Raises:
        ValueError: not finite, or not positive definite even with its own mean on its diagonal.
    """
    for tried in dampings(damping):
        lower: torch.Tensor
        lower, info = torch.linalg.cholesky_ex(damp(hessian, tried))
        if not info.any():
            return lower
    raise ValueError(INDEFINITE)


def inverse_factor(hessian: torch.Tensor, damping: float) -> torch.Tensor:
    """Upper U with (H + damping)^-1 = U^T U, float64. Row j over U_jj is how open columns answer an error in column j.

    Damping is raised, and errors are raised, as in `lower_factor`.
    """
    for tried in dampings(damping):
        lower, info = torch.linalg.cholesky_ex(damp(hessian, tried))
        if info.any():
            continue
        upper: torch.Tensor
        upper, info = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not info.any():
            return upper
    raise ValueError(INDEFINITE)


INDEFINITE = "the Hessian is not positive definite: more calibration data is needed"


def dampings(damping: float) -> list[float]:
    """The damping that was asked for, and tenfold ones up to 1: the first that is enough is taken."""
    tried = [damping]
    while tried[-1] < 1:
        tried.append(min(max(tried[-1] * 10, 1e-12), 1.0))
    return tried


def _finite(hessian: torch.Tensor) -> torch.Tensor:
    # The least and the largest are NaN where any value is: no copy [K, K] is made to look.
    if not torch.isfinite(torch.stack(torch.aminmax(hessian))).all():
        raise ValueError("the Hessian has values that are not finite")
    return hessian
