"""Whether a candidate is within 1% or 0.1% of the original: the accuracy gates "99%" and "99.9%" of MLPerf.

A loss is relative to the original. Of metrics that the original itself has, where higher is better, it is 1 - ratio.
Paired metrics are a distance from the original already: 1 - SSIM, LPIPS itself, and of PSNR the root mean square
error in units of the range, 10^(-PSNR/20) for each video (1% is 40 dB, 0.1% is 60 dB).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from quant.eval.metrics import table
from quant.eval.metrics.intervals import Estimate

LEVELS = (0.01, 0.001)
#: A bootstrap of fewer samples has too narrow an interval to decide by.
MIN_SAMPLES = 8
Verdict = Literal["pass", "fail", "not enough samples"]


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


def loss_of(key: str, candidate: Sequence[float | None], original: Sequence[float | None] | None) -> Estimate:
    """The loss by the metric `key`, from one value a sample; `original` is the original's own values, if it has any.

    Raises ValueError for a metric that is not listed, and as `Metric.loss` does.
    """
    metric = table.find(key)
    if metric is None:
        raise ValueError(f"there is no loss by {key!r}")
    return metric.loss(candidate, original)
