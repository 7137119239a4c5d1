"""Says what a clip shows, by arithmetic on its pixels alone.

A metric that is itself a network can be fooled in ways nobody sees. Here the world is simple enough to measure:
the border is background, what differs from it is the shape, its centre's path is the motion, and its outline is
compared with drawn ones. On drawn clips the judge is right about everything.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from quant.eval.shapes.draw import coverage
from quant.eval.shapes.vocabulary import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    SHAPES,
    SIZES,
    SPEEDS,
    Rgb,
    ShapeClip,
    parse_caption,
)

Video = Tensor | np.ndarray[tuple[int, ...], np.dtype[np.floating]]

#: Colour distance (0..1.7) from the background below which nothing is there.
VISIBLE = 0.15
#: Pixels from the first frame to the last below which nothing moves.
MOVES = 2.0
#: Pixels from the fitted line; a path that half of all centres leave farther is none.
STRAY = 1.0
#: Coverage below which a pixel is taken for noise.
FAINT = 0.15


@dataclass(frozen=True)
class Seen:
    """What is seen of each attribute; None where there is nothing to see it by."""

    size: str | None
    colour: str | None
    shape: str | None
    speed: str | None
    direction: str | None
    background: str


def look(video: Video) -> Seen:
    """What `video` [F, H, W, 3] with values in 0..1 shows."""
    background, found = _shape(torch.as_tensor(video).float())
    behind = _nearest(background, BACKGROUNDS)
    if found is None:
        return Seen(None, None, None, None, None, behind)
    colour, alpha = found
    centres = _centres(alpha)
    shape, size = _outline(alpha, centres)
    speed, direction = _motion(centres)
    return Seen(size, _nearest(colour, COLOURS), shape, speed, direction, behind)


def track(video: Video) -> Tensor | None:
    """The centre [F, 2] in pixels (x, y) of the shape in each frame of `video` [F, H, W, 3] in 0..1.

    None where there is no shape to follow.
    """
    _, found = _shape(torch.as_tensor(video).float())
    return None if found is None else _centres(found[1])


def stray(video: Video, source: Video) -> float:
    """How far from the path of the shape in `source` that in `video` is, in pixels: the mean distance over all frames.

    Infinite where either has no shape to follow.
    """
    found, wanted = track(video), track(source)
    if found is None or wanted is None:
        return math.inf
    return float((found - wanted).norm(dim=1).mean())


def agreement(video: Video, clip: ShapeClip) -> dict[str, bool]:
    """For each attribute, whether `video` [F, H, W, 3] in 0..1 shows what `clip` says."""
    seen, wanted = asdict(look(video)), asdict(clip)
    return {name: seen[name] == wanted[name] for name in ATTRIBUTES}


def verdicts(videos: Sequence[Video] | Video, prompts: Sequence[str]) -> dict[str, tuple[bool, ...]]:
    """By attribute, whether each video shows what its prompt says; nothing where a prompt is not a caption."""
    clips = [parse_caption(prompt) for prompt in prompts]
    if None in clips:
        return {}
    found = [agreement(video, clip) for video, clip in zip(videos, clips, strict=True) if clip is not None]
    return {name: tuple(each[name] for each in found) for name in ATTRIBUTES}


def accuracies(videos: Sequence[Video] | Video, clips: Sequence[ShapeClip]) -> dict[str, float]:
    """For each attribute, and for "all" of them at once, the share of `videos` that show what `clips` say."""
    if len(videos) != len(clips) or not clips:
        raise ValueError(f"{len(videos)} videos for {len(clips)} clips")
    agreements = [agreement(video, clip) for video, clip in zip(videos, clips, strict=True)]
    shares = {name: sum(a[name] for a in agreements) / len(clips) for name in ATTRIBUTES}
    return shares | {"all": sum(all(a.values()) for a in agreements) / len(clips)}


def _shape(frames: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
    """The background's colour [3], and the shape's with how much of each pixel has it [F, H, W]; None for no shape."""
    background = _border(frames).median(dim=0).values
    difference = (frames - background).norm(dim=-1)
    strongest = difference.amax(dim=(1, 2), keepdim=True)
    if strongest.median() < VISIBLE:
        return background, None
    # The pixels that differ most are inside the shape; those at its edge are mixtures.
    inside = frames[difference > 0.6 * strongest.clamp(min=VISIBLE)]
    colour = inside.median(dim=0).values
    return background, (colour, _alpha(frames, colour, background))


def _border(frames: Tensor) -> Tensor:
    """The outermost pixels [N, 3] of all frames; no shape reaches them."""
    top, bottom, left, right = frames[:, 0], frames[:, -1], frames[:, 1:-1, 0], frames[:, 1:-1, -1]
    return torch.cat([top, bottom, left, right], dim=1).flatten(0, 1)


def _nearest(colour: Tensor, palette: dict[str, Rgb]) -> str:
    distances = {name: (colour * 255 - torch.tensor(rgb)).norm().item() for name, rgb in palette.items()}
    return min(distances, key=distances.__getitem__)


def _alpha(frames: Tensor, colour: Tensor, background: Tensor) -> Tensor:
    """How much of the shape's colour [F, H, W] in 0..1 each pixel has, between background and colour."""
    step = colour - background
    alpha = (((frames - background) @ step) / step.square().sum()).clamp(0, 1)
    return torch.where(alpha < FAINT, torch.zeros_like(alpha), alpha)


def _centres(alpha: Tensor) -> Tensor:
    """The centre of gravity [F, 2] in pixels (x, y) of the shape in each frame."""
    height, width = alpha.shape[1:]
    mass = alpha.sum(dim=(1, 2)).clamp(min=1e-3)
    x = (alpha.sum(dim=1) @ (torch.arange(width) + 0.5)) / mass
    y = (alpha.sum(dim=2) @ (torch.arange(height) + 0.5)) / mass
    return torch.stack([x, y], dim=1)


def _motion(centres: Tensor) -> tuple[str | None, str | None]:
    """Speed and direction of the straight line that fits the centres best; None where they do not follow a line."""
    time = torch.arange(len(centres)) - (len(centres) - 1) / 2
    speed = (time @ centres) / time.square().sum()
    if (centres - centres.mean(dim=0) - time[:, None] * speed).norm(dim=1).median() > STRAY:
        return None, None
    travelled = speed * (len(centres) - 1)
    x, y = travelled.tolist()
    if max(abs(x), abs(y)) < MOVES:
        return None, None
    if abs(x) > abs(y):
        direction = "right" if x > 0 else "left"
    else:
        direction = "down" if y > 0 else "up"
    distance = max(abs(x), abs(y))
    return min(SPEEDS, key=lambda speed: abs(SPEEDS[speed] - distance)), direction


def _outline(alpha: Tensor, centres: Tensor) -> tuple[str, str]:
    """The shape and size whose drawn outline overlaps the seen one best, over all frames.

    Each is tried a little to every side of the centre, and the best place counts. Overlap is the intersection
    over the union of the coverages.
    """
    height, width = alpha.shape[1:]
    shifts = torch.tensor([(x, y) for x in (-0.5, 0.0, 0.5) for y in (-0.5, 0.0, 0.5)])
    x = (torch.arange(width) + 0.5)[None, None, None] - (centres[:, 0] + shifts[:, :1])[:, :, None, None]
    y = (torch.arange(height) + 0.5)[None, None, :, None] - (centres[:, 1] + shifts[:, 1:])[:, :, None, None]
    overlaps: dict[tuple[str, str], float] = {}
    for shape in SHAPES:
        for size, radius in SIZES.items():
            drawn = coverage(shape, radius, x, y + _low(shape, radius))
            shared = torch.minimum(drawn, alpha).sum(dim=(1, 2, 3))
            overlaps[shape, size] = (shared / torch.maximum(drawn, alpha).sum(dim=(1, 2, 3))).max().item()
    return max(overlaps, key=overlaps.__getitem__)


@cache
def _low(shape: str, radius: float) -> float:
    """How far the centre of gravity of a drawn shape lies below the point it is drawn around, in pixels."""
    y = torch.arange(-2 * radius, 2 * radius, 0.25)
    rows = coverage(shape, radius, y[None, :], y[:, None]).sum(dim=1)
    return ((rows @ y) / rows.sum()).item()
