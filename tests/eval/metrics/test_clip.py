from __future__ import annotations

import math

import numpy as np
import pytest

from quant.eval.metrics.clip import frame_consistency, prompt_consistency

_FRAMES = np.array([[2, 0], [0, 3], [1, 1]], dtype=np.float32)


def test_the_mean_cosine_of_consecutive_frames() -> None:
    assert frame_consistency(_FRAMES) == pytest.approx((0 + math.sqrt(0.5)) / 2)
    assert frame_consistency(_FRAMES[[0, 2, 1, 1]]) == pytest.approx((2 * math.sqrt(0.5) + 1) / 3)


def test_the_mean_cosine_of_frames_and_prompt() -> None:
    assert prompt_consistency(_FRAMES, np.array([5, 0], dtype=np.float32)) == pytest.approx(
        (1 + 0 + math.sqrt(0.5)) / 3
    )


def test_what_has_no_cosine_is_refused() -> None:
    with pytest.raises(ValueError, match="two frames or more"):
        frame_consistency(_FRAMES[:1])
    with pytest.raises(ValueError, match="zero or not finite"):
        frame_consistency(np.zeros((2, 2), dtype=np.float32))
    with pytest.raises(ValueError, match="zero or not finite"):
        prompt_consistency(_FRAMES * np.float32("nan"), np.ones(2, dtype=np.float32))
    with pytest.raises(ValueError, match="do not fit"):
        prompt_consistency(_FRAMES, np.zeros(3, dtype=np.float32))
