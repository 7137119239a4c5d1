"""LPIPS 0.1, the learned perceptual distance of two images (Zhang et al. 2018, arXiv 1801.03924), in torch.

Both images go through a classifier; at five depths their features, scaled to length one at each place, are
subtracted, squared, weighted by a learned head over the channels, and averaged over the places.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.errors import QuantError
from quant.eval.weights import fetching

Name = Literal["alex", "vgg"]


@dataclass(frozen=True)
class _Layout:
    """A chain of convolutions with ReLU: (in, out, kernel, stride, padding) each. `pooled` have a max pooling before
    them, `taps` are those whose outputs are compared; `minimum` is the smallest side that leaves a last pixel."""

    convolutions: tuple[tuple[int, int, int, int, int], ...]
    pooled: tuple[int, ...]
    window: int
    taps: tuple[int, ...]
    minimum: int


def _vgg() -> _Layout:
    widths = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    convolutions = tuple((one, other, 3, 1, 1) for one, other in itertools.pairwise(widths))
    return _Layout(convolutions, pooled=(2, 4, 7, 10), window=2, taps=(1, 3, 6, 9, 12), minimum=16)


_LAYOUTS: dict[str, _Layout] = {
    "alex": _Layout(
        ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)),
        pooled=(1, 2),
        window=3,
        taps=(0, 1, 2, 3, 4),
        minimum=31,
    ),
    "vgg": _vgg(),
}


class Lpips(nn.Module):
    """The distance of pairs of images by the backbone `name`: [B, 3, H, W] twice, in -1..1 -> [B], 0 where equal."""

    shift: Tensor
    scale: Tensor

    def __init__(self, name: Name) -> None:
        super().__init__()
        if name not in _LAYOUTS:
            raise QuantError(f"there is no LPIPS by the network {name!r}, but by {' and '.join(_LAYOUTS)}")
        self.name = name
        self.layout = _LAYOUTS[name]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, stride, padding)
            for inputs, outputs, kernel, stride, padding in self.layout.convolutions
        )
        self.heads = nn.ModuleList(
            nn.Conv2d(self.layout.convolutions[tap][1], 1, 1, bias=False) for tap in self.layout.taps
        )
        # From -1..1 to the mean and the spread of ImageNet.
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape or a.ndim != 4 or a.shape[1] != 3:
            raise ValueError(f"LPIPS takes two of [B, 3, H, W], not {tuple(a.shape)} and {tuple(b.shape)}")
        if min(a.shape[2:]) < self.layout.minimum:
            size = f"{a.shape[3]}x{a.shape[2]}"
            raise QuantError(f"LPIPS {self.name} needs frames of {self.layout.minimum} pixels or more, not {size}")
        distance = a.new_zeros(a.shape[0])
        for head, one, other in zip(self.heads, self._features(a), self._features(b), strict=True):
            squares = (_unit_length(one) - _unit_length(other)).square()
            distance = distance + head(squares).mean(dim=(1, 2, 3))
        return distance

    def _features(self, x: Tensor) -> list[Tensor]:
        x = (x - self.shift) / self.scale
        taps: list[Tensor] = []
        for index, convolution in enumerate(self.convolutions):
            if index in self.layout.pooled:
                x = F.max_pool2d(x, self.layout.window, stride=2)
            x = F.relu(convolution(x))
            if index in self.layout.taps:
                taps.append(x)
        return taps


def load(name: Name, device: str | torch.device = "cpu") -> Lpips:
    """The fetched network, ready to use. Raises QuantError where it is not in the cache."""
    model = Lpips(name)
    model.load_state_dict(fetching.weights(f"lpips-{name}"))
    return model.eval().requires_grad_(False).to(device)


def _unit_length(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
