"""LPIPS of two videos of the same prompt and seed: the mean over their frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from quant.eval.frames import Frames, check_pair
from quant.eval.metrics.base import Paired, Video

if TYPE_CHECKING:
    from torch import Tensor

    from quant.eval.networks.lpips import Lpips


def paired_lpips(network: Lpips, reference: Frames, candidate: Frames, *, batch: int = 8) -> tuple[float, ...]:
    """The mean learned distance of each candidate's frames from the reference's; 0 where identical.

    Both are [N, F, H, W, 3] in 0..1; `batch` frames at a time go through the network, on its own device, scaled to
    -1..1 and not resized. Raises ValueError as `check_pair` does, QuantError (from the network) for frames that are
    too small for it.
    """
    check_pair(reference, candidate)
    if reference.ndim != 5 or reference.shape[-1] != 3:
        raise ValueError(f"videos are [N, F, H, W, 3], not {reference.shape}")
    pairs = zip(reference, candidate, strict=True)
    return tuple(_video_lpips(network, one, other, batch) for one, other in pairs)


def _video_lpips(network: Lpips, reference: Frames, candidate: Frames, batch: int) -> float:
    import torch

    distances: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(reference), batch):
            parts = (video[start : start + batch] for video in (reference, candidate))
            one, other = (_signed(part).to(network.shift.device) for part in parts)
            distances += network(one, other).tolist()
    return math.fsum(distances) / len(distances)


def _signed(frames: Frames) -> Tensor:
    """[B, H, W, 3] in 0..1 -> [B, 3, H, W] in -1..1."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32)).permute(0, 3, 1, 2) * 2 - 1


@dataclass(frozen=True, kw_only=True)
class _Lpips(Paired):
    def score(self, video: Video, network: Any) -> float:
        return paired_lpips(network, video.reference[None], video.frames[None])[0]

    def lost(self, value: float) -> float:
        return value


LPIPS_ALEX, LPIPS_VGG = (
    _Lpips(
        key=f"lpips_{name}",
        title=f"LPIPS ({title})",
        heading=f"LPIPS {name}",
        short="LPIPS",
        higher=False,
        network=f"lpips_{name}",
        loss_words="LPIPS itself",
    )
    for name, title in (("alex", "AlexNet"), ("vgg", "VGG"))
)
