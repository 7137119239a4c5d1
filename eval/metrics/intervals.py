"""Means over samples with bootstrap intervals (Efron & Tibshirani 1993, chapters 13 and 8.3), and what they decide.

Percentile bootstrap: samples are drawn with replacement, and the interval holds the middle of the resampled means.
With fewer than about ten samples it is too narrow: two samples cannot show how far a third would lie.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

#: Losses to the original that are asked for: the accuracy gates "99%" and "99.9%" of MLPerf.
LEVELS = (0.01, 0.001)
#: A bootstrap of fewer samples has too narrow an interval to decide by.
MIN_SAMPLES = 8
Verdict = Literal["pass", "fail", "not enough samples"]
#: Resampled values held at a time.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Estimate:
    """A figure of `n` samples with its interval; None where there is none (no infinity and no NaN)."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain data for JSON."""
        return asdict(self)


def mean_estimate(values: Sequence[float], *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Estimate:
    """The mean of `values` with the interval that holds `level` of the resampled means.

    The same values and seed give the same interval. No interval for one value, nothing at all for none. Raises
    ValueError for values that are not finite: where identical videos have no PSNR, say so apart.
    """
    array = _finite(values)
    if array.size == 0:
        return Estimate(None, None, None, 0)
    mean = math.fsum(array) / array.size
    if array.size < 2:
        return Estimate(mean, None, None, array.size)
    (means,) = _resampled_means((array,), resamples, seed)
    low, high = _middle(means, level)
    # Equal values: a sum's rounding must not put the mean outside its own interval.
    return Estimate(mean, min(low, mean), max(high, mean), array.size)


def paired_ratio(
    candidate: Sequence[float], original: Sequence[float], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """mean(candidate) / mean(original), both resampled together: pairs of the same prompt and seed stay pairs.

    What is hard for both then cancels, which makes the interval narrower than that of two separate means. A ratio
    to a mean of 0 or less says nothing: no value then; no interval where resampled means reach 0. Raises ValueError
    for different lengths and for values that are not finite.
    """
    above, below = _finite(candidate), _finite(original)
    if above.size != below.size:
        raise ValueError(f"{above.size} values of the candidate cannot be paired with {below.size} of the original")
    count = above.size
    if count == 0 or math.fsum(below) <= 0:
        return Estimate(None, None, None, count)
    ratio = math.fsum(above) / math.fsum(below)
    if count < 2:
        return Estimate(ratio, None, None, count)
    means, of_original = _resampled_means((above, below), resamples, seed)
    if of_original.min() <= 0:
        return Estimate(ratio, None, None, count)
    low, high = _middle(means / of_original, level)
    return Estimate(ratio, min(low, ratio), max(high, ratio), count)


def verdict(loss: Estimate, level: float) -> Verdict:
    """Says "pass" where the whole interval of `loss` is at most `level`, "fail" where all of it is above.

    Neither is returned for fewer than `MIN_SAMPLES`.
    """
    if loss.n < MIN_SAMPLES:
        return "not enough samples"
    if loss.high is not None and loss.high <= level:
        return "pass"
    if loss.low is not None and loss.low > level:
        return "fail"
    return "not enough samples"


_Array = npt.NDArray[np.float64]


def _finite(values: Sequence[float]) -> _Array:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError("an interval needs a list of finite values")
    return array


def _resampled_means(arrays: tuple[_Array, ...], resamples: int, seed: int) -> list[_Array]:
    """The means of `resamples` draws with replacement for each array; the same places are drawn from all."""
    generator = np.random.default_rng(seed)
    count = arrays[0].size
    rows = max(1, _CHUNK // count)
    parts: list[list[_Array]] = [[] for _ in arrays]
    for start in range(0, resamples, rows):
        chosen = generator.integers(count, size=(min(rows, resamples - start), count))
        for part, array in zip(parts, arrays, strict=True):
            part.append(array[chosen].mean(axis=1))
    return [np.concatenate(part) for part in parts]


def check_level(level: float) -> None:
    """Raises ValueError unless the level of an interval is a share between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval lies between 0 and 1, not at {level}")


def _middle(values: _Array, level: float) -> tuple[float, float]:
    check_level(level)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
