"""I3D, the network of the Fréchet video distance (Carreira and Zisserman 2017, arXiv 1705.07750), in torch.

It follows the RGB Inception-v1 I3D of Kinetics-400 whose TensorFlow original the first FVD used
(Unterthiner et al. 2018, arXiv 1812.01717): "SAME" padding, which is asymmetric where a total is odd, and
batch norm with epsilon 1e-3, without a scale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.errors import QuantError
from quant.eval.networks.extraction import POPULATION, SAMPLE, Device, Extractor, squash, squash_by_corners
from quant.eval.weights import fetching
from quant.eval.weights.packages import networks

SIZE = 224
# The last pooling wants two time steps, and each of those stands for eight frames.
MINIMUM_FRAMES = 9

Triple = tuple[int, int, int]

# Channels of: 1x1; 1x1 then 3x3; 1x1 then 3x3; pooling then 1x1.
_MIXED = {
    "3b": (64, 96, 128, 16, 32, 32),
    "3c": (128, 128, 192, 32, 96, 64),
    "4b": (192, 96, 208, 16, 48, 64),
    "4c": (160, 112, 224, 24, 64, 64),
    "4d": (128, 128, 256, 24, 64, 64),
    "4e": (112, 144, 288, 32, 64, 64),
    "4f": (256, 160, 320, 32, 128, 128),
    "5b": (256, 160, 320, 32, 128, 128),
    "5c": (384, 192, 384, 48, 128, 128),
}


@dataclass(frozen=True)
class _Convention:
    """How videos go into the I3D: by a function of frames and size, in words, and whose convention it is."""

    resize: Callable[[Tensor, int], Tensor]
    says: str
    covariance: str
    source: str


#: By the name of the extractor.
CONVENTIONS = {
    "i3d": _Convention(
        squash,
        "each frame squashed to 224x224, bilinear by pixel centres, no antialiasing",
        POPULATION,
        "StyleGAN-V (Skorokhodov et al. 2022, arXiv 2112.14683)",
    ),
    "i3d-google": _Convention(
        squash_by_corners,
        "each frame squashed to 224x224, bilinear by corners as TensorFlow 1's resize_bilinear, no antialiasing",
        SAMPLE,
        "google-research/frechet_video_distance (Unterthiner et al. 2018, arXiv 1812.01717)",
    ),
}


class I3D(nn.Module):
    """[B, 3, T, 224, 224] in -1..1, at least `MINIMUM_FRAMES` frames -> logits [B, 400], before any softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, (7, 7, 7), (2, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, (3, 3, 3))
        channels = 192
        for name, sizes in _MIXED.items():
            self.add_module(f"Mixed_{name}", Mixed(channels, sizes))
            channels = sizes[0] + sizes[2] + sizes[4] + sizes[5]
        self.logits = Unit(channels, 400, last=True)

    def forward(self, video: Tensor) -> Tensor:
        if video.ndim != 5 or video.shape[1] != 3 or video.shape[3:] != (SIZE, SIZE):
            raise ValueError(f"I3D takes [B, 3, T, {SIZE}, {SIZE}], not {tuple(video.shape)}")
        if video.shape[2] < MINIMUM_FRAMES:
            raise QuantError(f"I3D needs videos of at least {MINIMUM_FRAMES} frames, not {video.shape[2]}")
        x = _max_pool(self.Conv3d_1a_7x7(video), (1, 3, 3), (1, 2, 2))
        x = _max_pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in _MIXED:
            if name == "4b":
                x = _max_pool(x, (3, 3, 3), (2, 2, 2))
            if name == "5b":
                x = _max_pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(f"Mixed_{name}")(x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        logits: Tensor = self.logits(x)
        return logits.mean(dim=(2, 3, 4))


class Unit(nn.Module):
    """A convolution with "SAME" padding, batch norm and ReLU; the `last` one has a bias instead of both."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Triple = (1, 1, 1), stride: Triple = (1, 1, 1), *, last: bool = False
    ) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=last)
        self.bn = None if last else Normalization(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv3d(F.pad(x, same_padding(x.shape[2:], self.kernel, self.stride)))
        return x if self.bn is None else F.relu(self.bn(x))


class Normalization(nn.Module):
    """Batch norm by stored statistics, with a shift and no scale."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, bias=self.bias, eps=1e-3)


class Mixed(nn.Module):
    """An Inception block: four branches over the same input, their channels side by side."""

    def __init__(self, inputs: int, sizes: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        self.b0 = Unit(inputs, sizes[0])
        self.b1a, self.b1b = Unit(inputs, sizes[1]), Unit(sizes[1], sizes[2], (3, 3, 3))
        self.b2a, self.b2b = Unit(inputs, sizes[3]), Unit(sizes[3], sizes[4], (3, 3, 3))
        self.b3b = Unit(inputs, sizes[5])

    def forward(self, x: Tensor) -> Tensor:
        pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], dim=1)


def same_padding(sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """TensorFlow's "SAME" as `F.pad` wants it: last dimension first, the larger half of an odd total behind."""
    padding: list[int] = []
    for size, window, step in zip(reversed(sizes), reversed(kernel), reversed(stride), strict=True):
        total = max((math.ceil(size / step) - 1) * step + window - size, 0)
        padding += [total // 2, total - total // 2]
    return padding


def load(device: str | torch.device = "cpu") -> I3D:
    """The fetched network, ready to use. Raises QuantError where it is not in the cache."""
    model = I3D()
    model.load_state_dict(fetching.weights("i3d"))
    return model.eval().requires_grad_(False).to(device)


def extractor(name: str, device: Device = "cpu") -> Extractor:
    """The extractor of that name in `CONVENTIONS`. Raises QuantError where the network is not in the cache."""
    convention = CONVENTIONS[name]
    model = load(device)

    def embed(frames: Tensor) -> Tensor:
        video = convention.resize(frames, SIZE) * 2 - 1
        return model(video.permute(1, 0, 2, 3)[None])[0]  # type: ignore[no-any-return]  # modules are untyped

    conventions = {
        "resize": convention.says,
        "range": "-1..1, from frames that are not rounded to 8 bits",
        "frames": f"all of the video, {MINIMUM_FRAMES} or more",
        "covariance": convention.covariance,
        "feature": "the 400 logits of Kinetics-400, before the softmax",
        "weights_sha256": networks()["i3d"].tensors_sha256,
        "source": convention.source,
    }
    return Extractor(name, 400, conventions, device, embed)


def _max_pool(x: Tensor, kernel: Triple, stride: Triple) -> Tensor:
    return F.max_pool3d(F.pad(x, same_padding(x.shape[2:], kernel, stride), value=-math.inf), kernel, stride)
