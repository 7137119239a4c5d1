"""How a video goes into a network: which frames, how large, in which range, and what an extractor makes of them.

Implementations of one metric differ in exactly these, and the figures differ with them; so every convention has a
function of its own here, and extractors say which one they use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from quant.errors import QuantError
from quant.eval.frames import Frames


def as_tensor(video: Frames, device: str | torch.device = "cpu") -> Tensor:
    """[F, H, W, 3] float32 in 0..1 -> [F, 3, H, W] on `device`. Raises ValueError as `check_video` does."""
    check_video(video)
    return torch.from_numpy(np.ascontiguousarray(video, dtype=np.float32)).permute(0, 3, 1, 2).to(device)


def check_video(video: Frames) -> None:
    """Raises ValueError unless `video` is [F, H, W, 3], with something in it, and finite."""
    if video.ndim != 4 or video.shape[3] != 3 or 0 in video.shape:
        raise ValueError(f"a video is [F, H, W, 3], not {video.shape}")
    if not np.isfinite(video).all():
        raise ValueError("the video holds values that are not finite")


def frame_indices(available: int, wanted: int) -> list[int]:
    """`wanted` of `available` frames, evenly from first to last, each rounded to the nearest.

    Frames are repeated where there are fewer than wanted, and left out where there are more.
    """
    return [int(index) for index in np.rint(np.linspace(0, available - 1, wanted))]


def squash(frames: Tensor, size: int) -> Tensor:
    """[F, C, H, W] -> [F, C, size, size], bilinear by pixel centres, no antialiasing, whatever the aspect ratio was.

    As torch's `interpolate(align_corners=False)`.
    """
    return F.interpolate(frames, (size, size), mode="bilinear", align_corners=False)


def squash_by_corners(frames: Tensor, size: int) -> Tensor:
    """The same as TensorFlow 1's `resize_bilinear` does it: the output pixel i lies at i * old / new, not at centres.

    The picture is shifted by up to half a pixel against `squash`; the last rows and columns are repeated.
    """
    return _lerp(_lerp(frames, size, dim=-1), size, dim=-2)


def shortest_edge(frames: Tensor, edge: int) -> Tensor:
    """[F, C, H, W] -> the same aspect ratio with `edge` pixels on the shorter side; bilinear, antialiased as in PIL."""
    height, width = frames.shape[-2:]
    short, long = min(height, width), max(height, width)
    other = int(edge * long / short)
    size = (edge, other) if height <= width else (other, edge)
    return stretch(frames, size)


def stretch(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """[F, C, H, W] -> [F, C, *size]; bilinear, antialiased as in PIL. Frames of that size are left as they are."""
    if tuple(frames.shape[-2:]) == size:
        return frames
    return F.interpolate(frames, size, mode="bilinear", align_corners=False, antialias=True)


def centre_crop(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """The middle [F, C, *size] of larger frames; smaller ones are surrounded by black."""
    missing = [max(wanted - have, 0) for wanted, have in zip(size, frames.shape[-2:], strict=True)]
    high, wide = missing
    frames = F.pad(frames, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
    top, left = ((have - wanted) // 2 for wanted, have in zip(size, frames.shape[-2:], strict=True))
    return frames[..., top : top + size[0], left : left + size[1]]


def normalize(frames: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(frames - mean) / std for each channel of [F, C, H, W]."""
    centre, spread = (torch.tensor(values, device=frames.device).view(1, -1, 1, 1) for values in (mean, std))
    return (frames - centre) / spread


def _lerp(x: Tensor, size: int, dim: int) -> Tensor:
    """Samples `dim` of `x` at i * old / new, linearly between neighbours."""
    old = x.shape[dim]
    position = torch.arange(size, device=x.device, dtype=torch.float32) * (old / size)
    low = position.floor().long().clamp(max=old - 1)
    high = (low + 1).clamp(max=old - 1)
    weight = (position - low).view([-1 if axis == dim % x.ndim else 1 for axis in range(x.ndim)])
    one, other = x.index_select(dim, low), x.index_select(dim, high)
    return one + (other - one) * weight


POPULATION = "divided by N"
SAMPLE = "divided by N - 1"

Device = str | torch.device


@dataclass(frozen=True)
class Extractor:
    """A network and how videos go into it. `extractor(video)` of float32 [F, H, W, 3] in 0..1 is float32 [D].

    `name` can be part of a path. `dimension` is D where it is known before the first video. `conventions` has the
    keys resize, range, frames, covariance, feature, weights_sha256 and source. The covariance is not taken here:
    `covariance_ddof` is what the distance has to be given to be comparable with published figures.
    """

    name: str
    dimension: int | None
    conventions: Mapping[str, Any]
    device: Device
    embed: Callable[[Tensor], Tensor]

    @property
    def covariance_ddof(self) -> int:
        """What the covariance's divisor is less than N: 0 or 1."""
        return {POPULATION: 0, SAMPLE: 1}[self.conventions["covariance"]]

    def __call__(self, video: Frames) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            vector = self.embed(as_tensor(video, self.device))
        features = vector.float().cpu().numpy()
        if features.ndim != 1:
            raise QuantError(f"{self.name} makes features of shape {features.shape} from one video, not one vector")
        if not np.isfinite(features).all():
            raise QuantError(f"{self.name} makes features that are not finite")
        return np.ascontiguousarray(features)
