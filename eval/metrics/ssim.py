"""Structural similarity of two videos of the same prompt and seed (Wang et al. 2004, IEEE TIP 13(4)).

The Gaussian window is 11 pixels wide (σ = 1.5), and only windows that lie wholly inside the frame count, as in the
authors' program. K1 = 0.01, K2 = 0.03, data range 1; each colour channel by itself, then the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.eval.frames import Frames, check_pair
from quant.eval.metrics.base import Paired, Video

#: Pixels on each side of the window's middle: 3.5 σ, rounded.
RADIUS = 5
WINDOW = 2 * RADIUS + 1
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2

_Image = npt.NDArray[np.float64]


def paired_ssim(reference: Frames, candidate: Frames) -> tuple[float, ...]:
    """The mean SSIM over the frames and channels of each candidate video; 1 where identical.

    Both are [N, F, H, W, C] in 0..1; one frame at a time is held in float64. Raises ValueError as `check_pair` does
    and for frames smaller than the window of 11x11 pixels.
    """
    check_pair(reference, candidate)
    if reference.ndim != 5:
        raise ValueError(f"videos are [N, F, H, W, C], not {reference.shape}")
    height, width = reference.shape[2:4]
    if min(height, width) < WINDOW:
        raise ValueError(f"SSIM needs frames of {WINDOW}x{WINDOW} pixels or more, not {width}x{height}")
    return tuple(
        float(np.mean([_frame_ssim(x, y) for x, y in zip(one, other, strict=True)]))
        for one, other in zip(reference, candidate, strict=True)
    )


def _frame_ssim(reference: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32]) -> float:
    x, y = reference.astype(np.float64), candidate.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x * mean_x
    variance_y = _blurred(y * y) - mean_y * mean_y
    covariance = _blurred(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + _C1) * (2 * covariance + _C2)
    below = (mean_x * mean_x + mean_y * mean_y + _C1) * (variance_x + variance_y + _C2)
    return float(np.mean(above / below))


def _blurred(image: _Image) -> _Image:
    """[H, W, C] -> [H - 10, W - 10, C]: the weighted mean of each window that lies inside the image."""
    weights = np.exp(-0.5 * (np.arange(-RADIUS, RADIUS + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    rows = sum(w * image[i : image.shape[0] - WINDOW + 1 + i] for i, w in enumerate(weights))
    return np.asarray(sum(w * rows[:, i : image.shape[1] - WINDOW + 1 + i] for i, w in enumerate(weights)))


@dataclass(frozen=True, kw_only=True)
class _Ssim(Paired):
    def score(self, video: Video, network: Any) -> float:
        return paired_ssim(video.reference[None], video.frames[None])[0]

    def lost(self, value: float) -> float:
        return 1 - value


SSIM = _Ssim(key="ssim", title="SSIM", short="SSIM", interval=True, loss_words="1 − SSIM")
