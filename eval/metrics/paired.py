"""Measures between two videos of the same prompt, seed and initial latents, on raw frames.

Raw means the floats the pipeline returned: encoding a video loses more than an 8-bit checkpoint does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Frames = npt.NDArray[np.float32]


def paired_psnr(reference: Frames, candidate: Frames, *, peak: float = 1.0) -> tuple[float, ...]:
    """The peak signal-to-noise ratio in dB of each candidate video against its reference.

    Both are [N, F, H, W, C] in 0..`peak`; the squared error is averaged over all of a video's frames, pixels and
    channels in float64. An identical video scores `inf`. Raises ValueError as `check_pair` does.
    """
    check_pair(reference, candidate)
    return tuple(_psnr(one, other, peak) for one, other in zip(reference, candidate, strict=True))


def check_pair(reference: Frames, candidate: Frames) -> None:
    """Raises ValueError for shapes that differ, videos without a pixel, and values that are not finite.

    An average over such values would hide a broken video.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"videos of shape {reference.shape} and {candidate.shape} cannot be compared")
    if 0 in reference.shape[1:]:
        raise ValueError(f"videos of shape {reference.shape} have no pixel to compare")
    for videos in (reference, candidate):
        # The extremes show any such value, and need no memory beside the videos.
        if videos.size and not (math.isfinite(videos.min()) and math.isfinite(videos.max())):
            raise ValueError("the videos hold values that are not finite")


def _psnr(reference: Frames, candidate: Frames, peak: float) -> float:
    error = np.subtract(reference, candidate, dtype=np.float64)
    mean_square = float(np.mean(np.square(error)))
    return math.inf if mean_square == 0 else 10 * math.log10(peak**2 / mean_square)


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
