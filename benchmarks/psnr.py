"""The PSNR of some videos in two figures, for tables of benchmarks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class PsnrSummary:
    """`mean` and `minimum` in dB, `inf` only where every video is identical, and how many are."""

    mean: float
    minimum: float
    identical: int


def summarize(psnr: Sequence[float]) -> PsnrSummary:
    """The mean, over the videos that differ at all, and the worst.

    One identical video would make a plain mean infinite, so identical ones are counted and left out of it.
    """
    if not psnr:
        raise ValueError("there is nothing to summarize")
    finite = [value for value in psnr if math.isfinite(value)]
    mean = math.fsum(finite) / len(finite) if finite else math.inf
    return PsnrSummary(mean, min(psnr), len(psnr) - len(finite))
