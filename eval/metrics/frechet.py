"""The Fréchet distance of two sets of feature vectors (Dowson & Landau 1982; FVD: Unterthiner et al. 2018).

It is always above the true distance by about 1/N, so intervals must not come from samples drawn with repetitions,
which raise it further. They come from halves without repetitions: a half's distance differs from the mean over
halves about as much as a new set of the full size would differ (delete-half jackknife, Shao & Wu 1989).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.eval.metrics import base
from quant.eval.metrics.base import check_features

Features = npt.NDArray[np.floating]
_Array = npt.NDArray[np.float64]
_LEVEL = 0.95
#: Videos per dimension below which a distance is mostly bias; pairs of the same noise share most of theirs.
_ENOUGH, _ENOUGH_PAIRED = 1.0, 0.3
#: Shares of the set whose distances are extrapolated to an endless set.
_SHARES = (0.5, 0.6, 0.75)


def frechet_distance(a: Features, b: Features, *, ddof: int = 1) -> float:
    """|mean(a) - mean(b)|² + tr(A + B - 2 sqrt(A B)) of the covariances A and B of features [Na, D] and [Nb, D].

    tr sqrt(A B) is the sum of the singular values of the product of the centred features, which is exact also for
    fewer samples than dimensions, where a matrix square root is not. All in float64. `ddof` 1 divides by N - 1.
    Raises ValueError for other shapes, fewer than two vectors and values that are not finite.
    """
    one, other = check_features(a, b)
    shift = one.mean(axis=0) - other.mean(axis=0)
    left, right = _root(one, ddof), _root(other, ddof)
    spread = np.sum(left**2) + np.sum(right**2)
    shared = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    return max(float(shift @ shift + spread - 2 * shared), 0.0)


@dataclass(frozen=True)
class Distance:
    """A distance of two sets: `n` vectors (of the smaller set) in `dimension` dimensions, with a 95% interval.

    `enough`: whether the sets are large enough for it to be read at all; `warning` says why not, or is empty.
    `extrapolated`: the estimate for endless sets, which can fall a little below 0; None where it cannot be had.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    dimension: int
    enough: bool
    extrapolated: float | None
    warning: str


def fvd(a: Features, b: Features, *, paired: bool, repeats: int = 100, seed: int = 0, ddof: int = 1) -> Distance:
    """The distance of features [Na, D] and [Nb, D] with its interval from `repeats` halves.

    `paired`: row i of both comes from the same prompt and noise, so halves keep pairs together. The interval is the
    value plus the middle 95% of the halves' deviations from their mean, cut at 0; none for fewer than four vectors.
    Extrapolation (Chong & Forsyth 2020, arXiv 1911.07023): a straight line in 1/N, which holds above D vectors only,
    so it is done where the halves have more than that. Raises ValueError as `frechet_distance` does and for pairs of
    sets of different lengths.
    """
    one, other = check_features(a, b)
    if paired and len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} feature vectors are no pairs")
    n, dimension = min(len(one), len(other)), one.shape[1]
    value = frechet_distance(one, other, ddof=ddof)
    generator = np.random.default_rng(seed)

    def parts(share: float, count: int) -> _Array:
        found = [frechet_distance(*_part(one, other, share, paired, generator), ddof=ddof) for _ in range(count)]
        return np.array(found)

    low = high = extrapolated = None
    if n >= 4:
        halves = parts(0.5, repeats)
        below, above = np.quantile(halves - halves.mean(), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
        # Halves at one distance: the rounding of their mean must not put the value outside its own interval.
        low, high = min(max(value + float(below), 0.0), value), max(value + float(above), value)
        if min(_SHARES) * n > dimension:
            means = [halves.mean(), *(parts(share, max(repeats // 4, 1)).mean() for share in _SHARES[1:]), value]
            extrapolated = float(np.polyfit([1 / share for share in (*_SHARES, 1.0)], means, 1)[1])
    enough = n > (_ENOUGH_PAIRED if paired else _ENOUGH) * dimension
    return Distance(value, low, high, n, dimension, enough, extrapolated, "" if enough else _warning(n, dimension))


def _warning(n: int, dimension: int) -> str:
    return f"N = {n} videos in D = {dimension} dimensions: the distance is mostly bias, read paired metrics"


def _part(
    one: _Array, other: _Array, share: float, paired: bool, generator: np.random.Generator
) -> tuple[_Array, _Array]:
    chosen = generator.permutation(len(one))[: round(share * len(one))]
    of_other = chosen if paired else generator.permutation(len(other))[: round(share * len(other))]
    return one[chosen], other[of_other]


def _root(features: _Array, ddof: int) -> _Array:
    """A matrix R of min(N, D) rows with R'R the covariance."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - ddof)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred


@dataclass(frozen=True, kw_only=True)
class _Fvd(base.SetDistance):
    def title(self, key: str) -> str:
        kind, _, extractor = key.partition(":")
        return f"{kind.upper()} ({extractor})" if extractor else kind.upper()

    def between(self, a: Features, b: Features, *, paired: bool, ddof: int) -> dict[str, Any]:
        return asdict(fvd(a, b, paired=paired, ddof=ddof))


FVD = _Fvd(prefix="", remark="lower is better")
