"""A candidate can be nearer to real videos than the original it should reproduce, and be much worse than it.

Real clips are drawn and clean; the original draws other clips with grain, as an imperfect generator. Smoothing takes
the grain away, so the distance to the real clips falls, and with it edges and motion that paired metrics see go.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from quant.eval.frames import Frames
from quant.eval.metrics.frechet import frechet_distance
from quant.eval.metrics.intervals import LEVELS, verdict
from quant.eval.metrics.psnr import paired_psnr
from quant.eval.metrics.ssim import paired_ssim
from quant.eval.metrics.table import loss_of
from quant.eval.networks.extraction import Extractor
from quant.eval.networks.kinds import extractor
from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import ShapeClip, all_clips

VIDEOS = 32
VIDEOMAE = Path(__file__).parents[3] / "examples" / "shapes" / "metric_networks" / "videomae"


def test_a_smoothed_candidate_has_the_better_distance_and_fails_the_verdict() -> None:
    clips = random.Random(0).sample(list(all_clips()), 2 * VIDEOS)
    real, drawn = _drawn(clips[:VIDEOS], seed=0), _drawn(clips[VIDEOS:], seed=1)
    grain = 0.15 * np.random.default_rng(0).standard_normal(drawn.shape)
    original = np.clip(drawn + grain, 0, 1).astype(np.float32)
    candidate = gaussian_filter(original, (0, 1, 0.5, 0.5, 0)).astype(np.float32)

    network = extractor(f"videomae:{VIDEOMAE}")
    reference = _features(real, network)
    flattered = frechet_distance(_features(candidate, network), reference)
    assert flattered < 0.9 * frechet_distance(_features(original, network), reference)

    for metric, scores in {
        "psnr": paired_psnr(original, candidate),
        "ssim": paired_ssim(original, candidate),
    }.items():
        assert [verdict(loss_of(metric, scores, None), level) for level in LEVELS] == ["fail", "fail"], metric
    # The original itself passes: it is the candidate that fails, not the gate.
    assert verdict(loss_of("ssim", paired_ssim(original, original), None), LEVELS[1]) == "pass"


def _drawn(clips: list[ShapeClip], seed: int) -> Frames:
    videos = draw(clips, torch.Generator().manual_seed(seed)).permute(0, 2, 3, 4, 1).numpy()
    return np.ascontiguousarray((videos + 1) / 2, dtype=np.float32)


def _features(videos: Frames, network: Extractor) -> npt.NDArray[np.float32]:
    return np.stack([network(video) for video in videos])
