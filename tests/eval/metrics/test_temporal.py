from __future__ import annotations

import math

import numpy as np
import pytest

from quant.eval.frames import Frames
from quant.eval.metrics.psnr import paired_psnr
from quant.eval.metrics.temporal import paired_temporal_psnr


def _moving() -> Frames:
    """One bright pixel that moves to the right."""
    video = np.zeros((1, 8, 4, 8, 3), dtype=np.float32)
    for frame in range(8):
        video[0, frame, 1, frame] = 0.8
    return video


def test_flicker_is_worse_than_the_same_error_that_stands_still() -> None:
    video = _moving()
    still, flicker = video + np.float32(0.125), video + np.float32(0.125)
    flicker[:, ::2] -= np.float32(0.25)
    assert paired_psnr(video, still) == pytest.approx(paired_psnr(video, flicker), abs=1e-4)
    assert paired_temporal_psnr(video, still)[0] > 120
    # Each difference is wrong by 0.25.
    assert paired_temporal_psnr(video, flicker) == pytest.approx([20 * math.log10(4)], abs=1e-4)


def test_a_video_that_does_not_move_is_caught() -> None:
    video = _moving()
    frozen = np.repeat(video.mean(axis=1, keepdims=True), 8, axis=1).astype(np.float32)
    # In each of the 7 differences two of 32 pixels are wrong by 0.8.
    assert paired_temporal_psnr(video, frozen) == pytest.approx([-10 * math.log10(0.64 * 2 / 32)], abs=1e-4)
    assert paired_temporal_psnr(video, video) == (math.inf,)


def test_one_frame_has_no_motion() -> None:
    with pytest.raises(ValueError, match="two frames or more"):
        paired_temporal_psnr(_moving()[:, :1], _moving()[:, :1])


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        paired_temporal_psnr(_moving(), _moving()[:, 1:])
    with pytest.raises(ValueError, match="not finite"):
        paired_temporal_psnr(_moving(), np.full_like(_moving(), np.nan))
