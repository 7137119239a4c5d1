"""Intervals and tests whose laws are known exactly: of shares (Clopper & Pearson 1934), signs, and means (Student).

Sums over all outcomes instead of special functions, so nothing but Python is needed; for some thousands of samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from quant.eval.metrics.intervals import Estimate, check_level

#: Halvings of a bracket until it is as narrow as a float tells apart.
_HALVINGS = 60


def share_estimate(hits: int, count: int, *, level: float = 0.95) -> Estimate:
    """The share of `hits` among `count` tries with its exact (Clopper-Pearson) interval; nothing of no tries.

    It holds the true share at least as often as `level` says, also where all or none hit: 16 of 16 is
    [0.794, 1]. Raises ValueError for more hits than tries.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"{hits} of {count} is no share")
    check_level(level)
    if count == 0:
        return Estimate(None, None, None, 0)
    tail = (1 - level) / 2
    low = 0.0 if hits == 0 else _root(lambda share: at_least(hits, count, share) > tail)
    high = 1.0 if hits == count else 1 - _root(lambda share: at_least(count - hits, count, share) > tail)
    return Estimate(hits / count, low, high, count)


def at_least(hits: int, count: int, share: float) -> float:
    """The probability of `hits` or more among `count` independent tries that hit with probability `share`, in 0..1."""
    if hits <= 0:
        return 1.0
    if share <= 0:
        return 0.0
    if share >= 1:
        return 1.0
    yes, no = math.log(share), math.log1p(-share)
    ways = math.lgamma(count + 1)
    terms = (
        math.exp(ways - math.lgamma(k + 1) - math.lgamma(count - k + 1) + k * yes + (count - k) * no)
        for k in range(hits, count + 1)
    )
    return min(1.0, math.fsum(terms))


def sign_test(more: int, less: int) -> float:
    """The probability that as uneven a split, or a more uneven one, comes of a fair coin: two-sided and exact.

    Args:
        more, less: how many differences are above and below zero; those of zero are left out.
    """
    count = more + less
    ways = sum(math.comb(count, k) for k in range(min(more, less) + 1))
    return min(1.0, float(2 * ways / 2**count))


def student_estimate(values: Sequence[float], *, level: float = 0.95) -> Estimate:
    """The mean of `values` with Student's interval; no interval for one value, nothing at all for none.

    Unlike a bootstrap it is wide enough for a few samples. It may reach beyond the values, so it is for differences,
    which have no bounds. Raises ValueError for values that are not finite.
    """
    mean, error = _mean_and_error(values)
    if mean is None or error is None:
        return Estimate(mean, None, None, len(values))
    half = student_quantile(len(values) - 1, level) * error
    return Estimate(mean, mean - half, mean + half, len(values))


def student_test(values: Sequence[float]) -> float | None:
    """The probability that a mean as far from zero comes of values around zero: Student's, two-sided.

    None for fewer than two values, and for equal ones, of which the test knows no spread.
    """
    mean, error = _mean_and_error(values)
    if mean is None or not error:
        return None
    return max(0.0, 1 - student_within(abs(mean) / error, len(values) - 1))


def student_within(t: float, freedom: int) -> float:
    """The probability that Student's t of so many degrees of freedom lies in -t..t (Abramowitz & Stegun 26.7.3-4)."""
    return _within(math.atan2(t, math.sqrt(freedom)), freedom)


@cache
def student_quantile(freedom: int, level: float) -> float:
    """The t for which `student_within` is `level`."""
    check_level(level)
    angle = _root(lambda part: _within(part * math.pi / 2, freedom) > level) * math.pi / 2
    return math.sqrt(freedom) * math.tan(angle)


def _within(angle: float, freedom: int) -> float:
    """As `student_within`, of the angle whose tangent is t / sqrt(freedom)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, terms = (cosine if odd else 1.0), []
    for k in range(1 + odd, freedom, 2):
        terms.append(term)
        term *= k / (k + 1) * cosine**2
    total = sine * math.fsum(terms)
    return 2 / math.pi * (angle + total) if odd else total


def _root(above: Callable[[float], bool]) -> float:
    """Where in 0..1 a rising condition begins to hold."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return (low + high) / 2


def _mean_and_error(values: Sequence[float]) -> tuple[float | None, float | None]:
    """The mean and its standard error, as far as there are values enough."""
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError("an interval needs a list of finite values")
    if array.size == 0:
        return None, None
    mean = math.fsum(array) / array.size
    if array.size < 2:
        return mean, None
    if array.min() == array.max():  # a sum's rounding is no spread
        return float(array[0]), 0.0
    spread = math.fsum((array - mean) ** 2) / (array.size - 1)
    return mean, math.sqrt(spread / array.size)
