"""One feature extractor: a network, how videos go into it, and the conventions that its figures depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quant.errors import QuantError
from quant.eval.frames import Frames
from quant.eval.networks.frames import as_tensor

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
