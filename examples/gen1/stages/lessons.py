"""What a step of the UNet's training learns from: clips in noise, and edits on their way.

**Edits.** `VideoToVideoSDPipeline` mixes noise into a given clip and walks on from there (SDEdit, Meng et al. 2022),
so an edit keeps what the noise has not hidden. With the plain objective that is a gamble: where enough noise is left
to hide a colour, it hides the motion as well, and where there is less, the UNet believes the old colour more than
the prompt. So up to half of what is learned is what that does: start at a time T with a clip y of another colour
or background, and aim at the clip x that the prompt describes. From A y + S n, the mixture at T, x is A x + S m for
m = n + (y - x) A / S. A deterministic sampler (DDIM, Song et al. 2021) that aims at x keeps m, so at any later time
it has a x + s m, and from that x is to be found. No part of the pipeline changes: the UNet learns to take colours
from the prompt and motion from the clip.

**Parts.** What is made from nothing but noise gets its shape and its direction in the first few steps of a sampler,
where hardly anything else is seen, and of even times one in eight is there. So the first part of the training, with
even times, teaches what clips look like and how they are edited; in later parts most clips that are no edits are hidden
almost wholly. In the last part they come in pairs, a clip and itself backwards, under the same noise, whose captions
differ in nothing but the direction: then what differs in their gradients is what the direction is to do, while all that
is random, such as the place of the shape, is alike in both. That taught this UNet no directions (see README.md).

One text in ten is empty, which classifier-free guidance needs (Ho and Salimans 2022).
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from quant.eval.shapes.vocabulary import ShapeClip, caption
from stages.edits import backwards, sentence
from stages.models import make_scheduler

EMPTY_TEXTS = 0.1


@dataclass(frozen=True)
class Part:
    """A part of the training: how what is learned is drawn from a step on."""

    start: int
    edits: float
    """How often a step's clip is an edit of another one."""
    skew: int
    """Times of other clips are 1 - (1 - u)^skew for even u: the last 0.15 of them is 0.15, 0.39 or 0.53 for 1, 2, 3."""
    backwards: bool
    """Does every second one of the other clips show the one before it backwards?"""


PARTS = (Part(0, 0.5, 1, False), Part(1400, 0.4, 2, False), Part(1650, 0.4, 3, True))
#: How often an edit's text is a sentence that asks for it.
SENTENCES = 0.3
#: The earliest and the latest start of an edit, as shares of all noise.
STRENGTHS = (0.45, 1.0)


@dataclass(frozen=True)
class Batch:
    """What one step learns from."""

    clips: Tensor
    """[B, Z, F, h, w] what is to be found"""
    sources: Tensor
    """[B, Z, F, h, w] what the walk started from"""
    noise: Tensor
    """[B, Z, F, h, w]"""
    times: Tensor
    """[B]"""
    starts: Tensor
    """[B] when the walk started; no earlier than `times`"""
    texts: list[str]


class Mixing:
    """The signal and the noise of every time, as the pipelines' scheduler has them."""

    def __init__(self) -> None:
        kept = make_scheduler().alphas_cumprod
        self.signal, self.noise = kept.sqrt(), (1 - kept).sqrt()

    def mixed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mixtures [B, Z, F, h, w], and v of the clips in them."""
        a, s = self._at(batch.times)
        signal, hiding = self._at(batch.starts)
        # A deterministic walk carries its noise along, here with what the source had and the clip has not.
        noise = batch.noise + signal / hiding * (batch.sources - batch.clips)
        return a * batch.clips + s * noise, a * noise - s * batch.clips

    def _at(self, times: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise at `times` [B], as [B, 1, 1, 1, 1]."""
        return self.signal[times].view(-1, 1, 1, 1, 1), self.noise[times].view(-1, 1, 1, 1, 1)


def make_batch(data: dict[str, Any], members: list[list[int]], step: int, size: int, share: slice) -> Batch:
    """A process's share of what a step learns from; the step's number is the seed of it."""
    generator = torch.Generator().manual_seed(step)
    part = [part for part in PARTS if part.start <= step][-1]
    clips = torch.randint(len(members), (size,), generator=generator).tolist()
    other, kind, empty = torch.rand(3, size, generator=generator).tolist()
    noise = torch.randn((size, *data["latents"].shape[1:]), generator=generator)
    # One time from each of `size` equal shares.
    times = ((torch.arange(size) + torch.rand(size, generator=generator)) / size)[
        torch.randperm(size, generator=generator)
    ]
    low, high = STRENGTHS
    starts = low + (high - low) * torch.rand(size, generator=generator)
    order = torch.randperm(size, generator=generator)[share]

    edits = math.ceil(part.edits * size)
    sources = [members[clip][int(other[i] * len(members[clip]))] if i < edits else clip for i, clip in enumerate(clips)]
    edited = torch.tensor([source != clip for source, clip in zip(sources, clips, strict=True)])
    latents, shown = data["latents"][clips], [data["clips"][clip] for clip in clips]
    found = data["latents"][sources]
    texts = [
        "" if empty[i] < EMPTY_TEXTS else _text(data["clips"][source], shown[i], kind[i])
        for i, source in enumerate(sources)
    ]
    # An edit is somewhere on its walk.
    times = torch.where(edited, times * starts, 1 - (1 - times) ** part.skew)
    for i in range(edits, size - 1, 2) if part.backwards else ():
        turned = backwards(shown[i])
        if turned is not None:
            latents[i + 1] = found[i + 1] = latents[i].flip(1)
            noise[i + 1], times[i + 1] = noise[i], times[i]
            texts[i + 1] = caption(turned) if texts[i] else ""
    times, starts = ((1000 * each).long().clamp(max=999) for each in (times, starts))
    starts = torch.where(edited, starts, torch.full_like(starts, 999))
    return Batch(latents[order], found[order], noise[order], times[order], starts[order], [texts[i] for i in order])


def _text(source: ShapeClip, clip: ShapeClip, kind: float) -> str:
    """The clip's caption, or the sentence that makes it of `source` where there is one and `kind` in 0..1 is low."""
    asked = sentence(source, clip) if source != clip and kind < SENTENCES else None
    return caption(clip) if asked is None else asked
