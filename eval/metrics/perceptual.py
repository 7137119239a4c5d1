"""LPIPS of two videos of the same prompt and seed: the mean over their frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from quant.eval.metrics.paired import Frames, check_pair

if TYPE_CHECKING:
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
    distances: list[float] = []
    with torch.inference_mode():
        for start in range(0, len(reference), batch):
            parts = (video[start : start + batch] for video in (reference, candidate))
            one, other = (_signed(part).to(network.shift.device) for part in parts)
            distances += network(one, other).tolist()
    return math.fsum(distances) / len(distances)


def _signed(frames: Frames) -> torch.Tensor:
    """[B, H, W, 3] in 0..1 -> [B, 3, H, W] in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(frames, dtype=np.float32)).permute(0, 3, 1, 2) * 2 - 1
