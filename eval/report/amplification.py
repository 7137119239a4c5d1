"""Frames as bytes, and how much a difference has to be amplified to be seen."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quant.eval.frames import Frames


def to_bytes(video: Frames) -> npt.NDArray[np.uint8]:
    """Values in 0..1 as 0..255, rounded to the nearest; what lies outside is clipped."""
    return np.rint(np.clip(video, 0, 1) * 255).astype(np.uint8)


def amplification(differences: Sequence[Frames]) -> int:
    """The power of two, 1..256, that makes a typical one of `differences` [N, F, H, W, 3] (>= 0) visible.

    One factor for all of them, so brightness can be compared. Typical: of each video the value that 1% of its
    own exceed, of those the median. It comes to lie between a half and 1; what exceeds 1 is clipped.
    """
    high = [float(np.quantile(video, 0.99)) for videos in differences for video in videos]
    typical = statistics.median(high) if high else 0.0
    return 256 if typical == 0 else int(min(256, max(1, 2 ** math.floor(math.log2(1 / typical)))))
