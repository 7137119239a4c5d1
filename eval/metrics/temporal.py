"""Whether a video moves as the original does: the PSNR of the differences of consecutive frames.

It catches what frames looked at one by one hide: flicker, lost or added motion, changes at the wrong time. It is
blind to an error that stays the same in all frames (a shifted colour, a wrong background): its difference is 0, so
read it with the PSNR of the frames. It knows of no optical flow: a displaced object counts at both its places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from quant.eval.frames import Frames, check_pair
from quant.eval.metrics.base import Paired, Video
from quant.eval.metrics.psnr import RMS_WORDS, paired_psnr, root_mean_square


def paired_temporal_psnr(reference: Frames, candidate: Frames) -> tuple[float, ...]:
    """The PSNR in dB of each candidate's frame differences against its reference's; `inf` where they are equal.

    Both are [N, F, H, W, C] in 0..1 with F of 2 or more. The peak is 1, as for frames, so that errors of both are in
    the same units. Raises ValueError as `check_pair` does and for fewer than two frames.
    """
    check_pair(reference, candidate)
    if reference.ndim != 5 or reference.shape[1] < 2:
        raise ValueError(f"frame differences need [N, F, H, W, C] with two frames or more, not {reference.shape}")
    pairs = zip(reference, candidate, strict=True)
    return tuple(paired_psnr(_differences(one), _differences(other))[0] for one, other in pairs)


def _differences(video: Frames) -> Frames:
    """[F, H, W, C] -> [1, F - 1, H, W, C]. The subtraction in float32 costs less than 2^-24."""
    return np.diff(video, axis=0)[None]


@dataclass(frozen=True, kw_only=True)
class _TemporalPsnr(Paired):
    def applies(self, video: Video) -> bool:
        return len(video.frames) > 1

    def score(self, video: Video, network: Any) -> float:
        return paired_temporal_psnr(video.reference[None], video.frames[None])[0]

    def lost(self, value: float) -> float:
        return root_mean_square(value)


TEMPORAL_PSNR = _TemporalPsnr(
    key="temporal_psnr",
    title="Temporal PSNR",
    heading="temporal",
    short="temporal PSNR",
    unit=" dB",
    digits=1,
    identical=True,
    loss_words=RMS_WORDS,
)
