"""What every distance between sets of videos asks of their features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def checked(
    a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Features [Na, D] and [Nb, D] in float64.

    Raises ValueError for other shapes, fewer than two vectors and values that are not finite.
    """
    one, other = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or not one.shape[1]:
        raise ValueError(f"features of shape {one.shape} and {other.shape} cannot be compared")
    if min(len(one), len(other)) < 2:
        raise ValueError("a set of one video cannot be compared: two or more are needed")
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise ValueError("the features hold values that are not finite")
    return one, other
