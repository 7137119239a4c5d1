"""The peak signal-to-noise ratio of two videos of the same prompt, seed and initial latents."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from quant.eval.frames import Frames, check_pair
from quant.eval.metrics.base import Paired, Video

RMS_WORDS = "the root mean square error in units of the range for PSNR (1% is 40 dB, 0.1% is 60 dB)"


def paired_psnr(reference: Frames, candidate: Frames, *, peak: float = 1.0) -> tuple[float, ...]:
    """The peak signal-to-noise ratio in dB of each candidate video against its reference.

    Both are [N, F, H, W, C] in 0..`peak`; the squared error is averaged over all of a video's frames, pixels and
    channels in float64. An identical video scores `inf`. Raises ValueError as `check_pair` does.
    """
    check_pair(reference, candidate)
    return tuple(_psnr(one, other, peak) for one, other in zip(reference, candidate, strict=True))


def _psnr(reference: Frames, candidate: Frames, peak: float) -> float:
    error = np.subtract(reference, candidate, dtype=np.float64)
    mean_square = float(np.mean(np.square(error)))
    return math.inf if mean_square == 0 else 10 * math.log10(peak**2 / mean_square)


def root_mean_square(decibels: float) -> float:
    """The error in units of the peak that a PSNR stands for: 40 dB is 0.01."""
    return float(10 ** (-decibels / 20))


@dataclass(frozen=True, kw_only=True)
class _Psnr(Paired):
    def score(self, video: Video, network: Any) -> float:
        return paired_psnr(video.reference[None], video.frames[None])[0]

    def lost(self, value: float) -> float:
        return root_mean_square(value)


PSNR = _Psnr(
    key="psnr",
    title="PSNR",
    heading="PSNR dB",
    short="PSNR",
    unit=" dB",
    digits=1,
    interval=True,
    identical=True,
    loss_words=RMS_WORDS,
)
