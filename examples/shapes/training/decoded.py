"""Makes drawn frames look as if a video decoder had made them.

A metric network sees drawn clips in training and decoded ones in use. Decoders blur edges, leave a faint texture
and miss a colour by a little; a network that has met those looks at the shape and not at its flaws.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

#: The largest share of a 3 x 3 average in a blurred frame.
BLUR = 0.8
#: The largest standard deviation of the noise, where frames span -1..1.
NOISE = 0.06
#: The largest change of a colour channel of a whole clip.
SHIFT = 0.05


def as_decoded(videos: Tensor, generator: torch.Generator) -> Tensor:
    """`videos` [B, 3, F, H, W] in -1..1, each damaged by its own random amounts, between none and the largest."""
    count, _, frames, _, _ = videos.shape
    blur, noise = torch.rand(2, count, 1, 1, 1, 1, generator=generator)
    shift = 2 * torch.rand(count, 3, 1, 1, 1, generator=generator) - 1
    images = F.pad(videos.transpose(1, 2).flatten(0, 1), (1, 1, 1, 1), mode="replicate")
    averaged = F.avg_pool2d(images, 3, stride=1).unflatten(0, (count, frames)).transpose(1, 2)
    damaged = videos.lerp(averaged, BLUR * blur) + SHIFT * shift
    return (damaged + NOISE * noise * torch.randn(videos.shape, generator=generator)).clamp(-1, 1)
