from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.eval.frames import Frames
from quant.eval.metrics.psnr import paired_psnr

SHAPE = (2, 3, 4, 5, 3)


def _full(value: float) -> Frames:
    return np.full(SHAPE, value, dtype=np.float32)


@pytest.mark.parametrize(
    ("difference", "peak", "decibels"),
    [(0.5, 1.0, 20 * math.log10(2)), (0.125, 1.0, 20 * math.log10(8)), (1.0, 1.0, 0.0), (1.0, 255.0, 48.1308036)],
)
def test_a_constant_difference_in_closed_form(difference: float, peak: float, decibels: float) -> None:
    found = paired_psnr(_full(0), _full(difference), peak=peak)
    assert found == pytest.approx([decibels] * 2)


def test_one_wrong_pixel_is_averaged_over_the_whole_video() -> None:
    candidate = _full(0)
    candidate[1, 0, 0, 0, 0] = 1
    identical, other = paired_psnr(_full(0), candidate)
    assert identical == math.inf
    assert other == pytest.approx(10 * math.log10(3 * 4 * 5 * 3))


@given(seed=st.integers(0, 1000), noise=st.floats(1e-3, 1))
@settings(max_examples=20, deadline=None)
def test_each_video_is_measured_as_torch_measures_it(seed: int, noise: float) -> None:
    generator = np.random.default_rng(seed)
    one = generator.random(SHAPE, dtype=np.float32)
    other = (one + noise * generator.random(SHAPE, dtype=np.float32)).astype(np.float32)
    errors = torch.nn.functional.mse_loss(torch.tensor(one).double(), torch.tensor(other).double(), reduction="none")
    expected = -10 * errors.flatten(1).mean(dim=1).log10()
    assert paired_psnr(one, other) == pytest.approx(expected.tolist(), rel=1e-9)
    assert paired_psnr(other, one) == paired_psnr(one, other)


def test_small_errors_are_summed_in_float64() -> None:
    """In float32, 1 - (1 - 2^-24) squared and summed would lose digits; here the closed form holds."""
    candidate = np.full(SHAPE, 1 - 2.0**-24, dtype=np.float32)
    assert paired_psnr(_full(1), candidate) == pytest.approx([20 * math.log10(2.0**24)] * 2, rel=1e-12)


def test_videos_of_different_shapes_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 5, 3\) and \(1, 3, 4, 5, 3\)"):
        paired_psnr(_full(0), _full(0)[:1])


@pytest.mark.parametrize("shape", [(2, 0, 4, 5, 3), (2, 3, 4, 0, 3)])
def test_videos_without_a_pixel_cannot_be_compared(shape: tuple[int, ...]) -> None:
    empty = np.zeros(shape, dtype=np.float32)
    with pytest.raises(ValueError, match="have no pixel to compare"):
        paired_psnr(empty, empty)
    assert paired_psnr(_full(0)[:0], _full(0)[:0]) == ()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("broken", ["reference", "candidate"])
def test_a_broken_video_is_no_average(value: float, broken: str) -> None:
    videos = {"reference": _full(0.5), "candidate": _full(0.25)}
    videos[broken][1, 2, 3, 4, 0] = value
    with pytest.raises(ValueError, match="not finite"):
        paired_psnr(videos["reference"], videos["candidate"])
