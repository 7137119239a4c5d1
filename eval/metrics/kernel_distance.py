"""The squared maximum mean discrepancy of two sets of feature vectors, as in KID (Bińkowski et al. 2018, 1801.01401).

Unbiased at every number of samples, unlike the Fréchet distance; it can fall below 0 where the sets are alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quant.eval.metrics.base import SetDistance, check_features


def polynomial_mmd(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating], *, paired: bool = False) -> float:
    """The unbiased estimate with the kernel (x·y / D + 1)³ of features [Na, D] and [Nb, D], in float64.

    `paired`: row i of both comes from the same prompt and noise. The two are alike, so their product would pull the
    estimate far below 0; it is left out, as a vector's product with itself is (Gretton et al. 2012, equation 4).
    Raises ValueError for other shapes, fewer than two vectors and values that are not finite.
    """
    one, other = check_features(a, b)
    if paired and len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} feature vectors are no pairs")
    across = _kernel(one, other)
    return _within(one) + _within(other) - 2 * (_off_diagonal(across) if paired else float(across.mean()))


def _kernel(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)


def _within(x: npt.NDArray[np.float64]) -> float:
    """The mean over pairs of two different vectors: a vector with itself would be the bias."""
    return _off_diagonal(_kernel(x, x))


def _off_diagonal(kernel: npt.NDArray[np.float64]) -> float:
    count = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))


@dataclass(frozen=True, kw_only=True)
class _KernelDistance(SetDistance):
    def title(self, key: str) -> str:
        return f"Kernel distance ({key.partition(':')[2] or key})"

    def between(self, a: npt.NDArray[np.floating], b: npt.NDArray[np.floating], *, paired: bool, ddof: int) -> float:
        return polynomial_mmd(a, b, paired=paired)


KERNEL_DISTANCE = _KernelDistance(prefix="mmd_", remark="unbiased: may be below 0")
