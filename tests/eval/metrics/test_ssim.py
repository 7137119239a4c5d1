from __future__ import annotations

import numpy as np
import pytest

from quant.eval.metrics.ssim import paired_ssim


@pytest.mark.parametrize("noise", [0.01, 0.2])
def test_it_is_what_scikit_image_measures(noise: float) -> None:
    from skimage.metrics import structural_similarity

    generator = np.random.default_rng(0)
    one = generator.random((2, 3, 20, 17, 3), dtype=np.float32)
    other = np.clip(one + noise * generator.standard_normal(one.shape), 0, 1).astype(np.float32)
    expected = [
        np.mean(
            [
                structural_similarity(
                    x.astype(np.float64),
                    y.astype(np.float64),
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                    data_range=1,
                    channel_axis=-1,
                )
                for x, y in zip(a, b, strict=True)
            ]
        )
        for a, b in zip(one, other, strict=True)
    ]
    assert paired_ssim(one, other) == pytest.approx(expected, abs=1e-10)
    assert paired_ssim(one, one) == (1.0, 1.0)


def test_of_flat_frames_only_the_luminance_term_is_left() -> None:
    one = np.full((1, 1, 11, 11, 3), 0.25, dtype=np.float32)
    other = np.full_like(one, 0.75)
    expected = (2 * 0.25 * 0.75 + 1e-4) / (0.25**2 + 0.75**2 + 1e-4)
    assert paired_ssim(one, other) == pytest.approx([expected])


def test_frames_smaller_than_the_window_are_refused() -> None:
    small = np.zeros((1, 2, 10, 32, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="11x11 pixels or more, not 32x10"):
        paired_ssim(small, small)
    with pytest.raises(ValueError, match="11x11 pixels or more, not 10x32"):
        paired_ssim(small.swapaxes(2, 3), small.swapaxes(2, 3))


def test_what_cannot_be_compared_is_refused() -> None:
    video = np.zeros((1, 1, 11, 11, 3), dtype=np.float32)
    with pytest.raises(ValueError, match="not finite"):
        paired_ssim(video, np.full_like(video, np.nan))
    with pytest.raises(ValueError, match="cannot be compared"):
        paired_ssim(video, video[:, :, :, :10])
    with pytest.raises(ValueError, match=r"\[N, F, H, W, C\], not \(1, 11, 11, 3\)"):
        paired_ssim(video[0], video[0])
