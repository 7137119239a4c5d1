"""Draws clips of moving shapes, anti-aliased, exactly as their attributes say."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from quant.eval.shapes.vocabulary import BACKGROUNDS, COLOURS, DIRECTIONS, SIZES, SPEEDS, Rgb, ShapeClip

FRAMES = 17
SIZE = 32
#: Pixels always left free between the shape and the edge of the frame.
MARGIN = 1.0


def coverage(shape: str, radius: float, dx: Tensor, dy: Tensor) -> Tensor:
    """How much of each pixel a shape covers, 0..1, in the shape that `dx` and `dy` broadcast to.

    `dx` and `dy` are the pixel centres' offsets in pixels from the shape's centre (y points down). Every shape
    fits in the square of half side `radius`. The signed distance to the outline, clamped to half a pixel on
    either side, is the usual cheap anti-aliasing.
    """
    if shape == "circle":
        distance = (dx.square() + dy.square()).sqrt() - radius
    elif shape == "square":
        # 0.86 makes its area about that of the circle.
        distance = torch.maximum(dx.abs(), dy.abs()) - 0.86 * radius
    elif shape == "triangle":
        # Apex at -radius, base at 0.8 radius, half as wide as `radius` on each side of the middle of the base.
        slope = 1.8
        sides = (dx.abs() * slope - dy - radius) / math.hypot(slope, 1.0)
        distance = torch.maximum(dy - 0.8 * radius, sides)
    else:
        raise ValueError(f"{shape!r} is no shape")
    return (0.5 - distance).clamp(0, 1)


def path(clip: ShapeClip, generator: torch.Generator) -> Tensor:
    """The centres [FRAMES, 2] in pixels (x, y) of a straight, steady path at a random place in the frame.

    The whole shape stays inside the frame for the whole clip.
    """
    low = SIZES[clip.size] + MARGIN
    high = SIZE - low
    distance = SPEEDS[clip.speed]
    along, across = torch.rand(2, generator=generator).tolist()
    middle = low + distance / 2 + along * (high - low - distance)
    lane = low + across * (high - low)
    step_x, step_y = DIRECTIONS[clip.direction]
    offset = (torch.arange(FRAMES) / (FRAMES - 1) - 0.5) * distance
    x = (middle if step_x else lane) + step_x * offset
    y = (middle if step_y else lane) + step_y * offset
    return torch.stack([x, y], dim=1)


def draw(clips: Sequence[ShapeClip], generator: torch.Generator) -> Tensor:
    """Videos [B, 3, FRAMES, SIZE, SIZE], float32 in -1..1, as a video autoencoder takes them.

    `generator` chooses only where in the frame each shape moves; everything else follows from the attributes.
    """
    videos = torch.empty(len(clips), 3, FRAMES, SIZE, SIZE)
    pixel = torch.arange(SIZE) + 0.5
    for video, clip in zip(videos, clips, strict=True):
        centre = path(clip, generator)
        dx = pixel[None, None, :] - centre[:, 0, None, None]
        dy = pixel[None, :, None] - centre[:, 1, None, None]
        alpha = coverage(clip.shape, SIZES[clip.size], dx, dy)
        background = _signed(BACKGROUNDS[clip.background])
        video.copy_(background + (_signed(COLOURS[clip.colour]) - background) * alpha)
    return videos


def _signed(colour: Rgb) -> Tensor:
    """An 8-bit colour as [3, 1, 1, 1] in -1..1."""
    return torch.tensor(colour).view(3, 1, 1, 1) / 127.5 - 1
