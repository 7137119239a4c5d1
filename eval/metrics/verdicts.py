"""Whether a candidate is within 1% or 0.1% of the original: the accuracy gates "99%" and "99.9%" of MLPerf.

A loss is relative to the original. Of metrics that the original itself has, where higher is better, it is 1 - ratio.
Paired metrics are a distance from the original already: 1 - SSIM, LPIPS itself, and of PSNR the root mean square
error in units of the range, 10^(-PSNR/20) for each video (1% is 40 dB, 0.1% is 60 dB).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from quant.eval.metrics.intervals import Estimate, mean_estimate, paired_ratio

LEVELS = (0.01, 0.001)
#: A bootstrap of fewer samples has too narrow an interval to decide by.
MIN_SAMPLES = 8
Verdict = Literal["pass", "fail", "not enough samples"]


def verdict(loss: Estimate, level: float) -> Verdict:
    """Says "pass" where the whole interval of `loss` is at most `level`, "fail" where all of it is above.

    Neither is said of fewer than `MIN_SAMPLES`.
    """
    if loss.n < MIN_SAMPLES:
        return "not enough samples"
    if loss.high is not None and loss.high <= level:
        return "pass"
    if loss.low is not None and loss.low > level:
        return "fail"
    return "not enough samples"


def loss_of(metric: str, candidate: Sequence[float | None], original: Sequence[float | None] | None) -> Estimate:
    """The loss by `metric`, from one value a sample; `original` is the original's own values, if it has any.

    Metrics: psnr, temporal_psnr (None: identical, a loss of 0), ssim, lpips…, clip_frame, clip_prompt, judged.
    Raises ValueError for another metric, for a None elsewhere, and where an own metric lacks the original's values.
    """
    if metric in ("psnr", "temporal_psnr"):
        return mean_estimate([0.0 if value is None else 10 ** (-value / 20) for value in candidate])
    values = _known(metric, candidate)
    if metric == "ssim":
        return mean_estimate([1 - value for value in values])
    if metric == "lpips" or metric.startswith("lpips_"):
        return mean_estimate(values)
    if metric not in ("clip_frame", "clip_prompt", "judged"):
        raise ValueError(f"there is no loss by {metric!r}")
    if original is None:
        raise ValueError(f"a loss by {metric} needs the original's own values")
    ratio = paired_ratio(values, _known(metric, original))
    return Estimate(_rest(ratio.value), _rest(ratio.high), _rest(ratio.low), ratio.n)


def _rest(share: float | None) -> float | None:
    return None if share is None else 1 - share


def _known(metric: str, values: Sequence[float | None]) -> list[float]:
    known = [value for value in values if value is not None]
    if len(known) != len(values):
        raise ValueError(f"{len(values) - len(known)} samples have no {metric}")
    return known
