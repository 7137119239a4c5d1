"""What there is to learn from: clips that differ in their looks and in nothing else, and sentences for edits.

A *scene* is a shape of one size on one path; its clips show it in several colours over several backgrounds. Any two
of them are a source and an edit of it, alike in everything that an edit keeps.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from quant.eval.shapes.draw import draw
from quant.eval.shapes.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    ShapeClip,
    all_clips,
    calibration_clips,
    judged_clips,
    trained_clips,
)

#: Every second frame of a drawn clip, the first and the last among them: the motion is the same, the work half.
EVERY = 2
#: Frames of a clip.
FRAMES = 9
#: Looks of a scene: so many colours over each of so many backgrounds, but for what is held out.
SCENE_COLOURS, SCENE_BACKGROUNDS = 3, 2

_TRAINED = frozenset(trained_clips())


@dataclass(frozen=True)
class Scene:
    """Clips of one shape on one path, whose captions differ in colour and background."""

    clips: tuple[ShapeClip, ...]
    #: Of the path.
    seed: int


def film(scene: Scene) -> Tensor:
    """The scene's videos [B, 3, FRAMES, H, W] in -1..1, all of one path."""
    return torch.cat([draw([clip], torch.Generator().manual_seed(scene.seed)) for clip in scene.clips])[:, :, ::EVERY]


def backwards(clip: ShapeClip) -> ShapeClip | None:
    """What a clip shows when its frames come in the other order; None where that is held out."""
    opposite = {(-x, -y): name for name, (x, y) in DIRECTIONS.items()}
    found = replace(clip, direction=opposite[DIRECTIONS[clip.direction]])
    return found if found in _TRAINED else None


def scenes(count: int) -> list[Scene]:
    """`count` scenes of trained clips only, every kind of motion equally often."""
    kinds = [clip for clip in all_clips() if (clip.colour, clip.background) == ("red", "black")]
    found = []
    for seed in range(count):
        generator = torch.Generator().manual_seed(seed)
        colours = _some(list(COLOURS), SCENE_COLOURS, generator)
        backgrounds = _some(list(BACKGROUNDS), SCENE_BACKGROUNDS, generator)
        kind = kinds[seed % len(kinds)]
        looks = [replace(kind, colour=colour, background=ground) for colour in colours for ground in backgrounds]
        found.append(Scene(tuple(clip for clip in looks if clip in _TRAINED), seed))
    return found


@dataclass(frozen=True)
class Edit:
    """A drawn clip to edit, and what the edit is to show."""

    source: ShapeClip
    edit: ShapeClip
    #: Of the source's path.
    seed: int


def judged_edits() -> list[Edit]:
    """64 edits to judge by. None of their results was trained on."""
    return _edits_to(judged_clips(), first_seed=1_000_000)


def calibration_edits() -> list[Edit]:
    """16 edits to calibrate a quantizer on, whose results are other clips on other paths."""
    return _edits_to(calibration_clips()[:16], first_seed=2_000_000)


def _edits_to(clips: Sequence[ShapeClip], first_seed: int) -> list[Edit]:
    """An edit to each of `clips`: of a colour, and each fourth of a background. Scenes have lower seeds."""
    found = []
    for i, clip in enumerate(clips):
        attribute, values = ("background", BACKGROUNDS) if i % 4 == 3 else ("colour", COLOURS)
        others = [value for value in values if value != getattr(clip, attribute)]
        found.append(Edit(replace(clip, **{attribute: others[i // 4 % len(others)]}), clip, seed=first_seed + i))
    return found


def film_edit(edit: Edit) -> Tensor:
    """The video [1, 3, FRAMES, H, W] in -1..1 of the edit's source."""
    return draw([edit.source], torch.Generator().manual_seed(edit.seed))[:, :, ::EVERY]


def sentence(source: ShapeClip, edit: ShapeClip) -> str | None:
    """What to say to get `edit` from `source`, or None where it takes more than one change."""
    if edit == replace(source, colour=edit.colour):
        return f"make the {edit.shape} {edit.colour}"
    if edit == replace(source, background=edit.background):
        return f"make the background {edit.background}"
    return None


def _some(values: Sequence[str], count: int, generator: torch.Generator) -> list[str]:
    return [values[i] for i in torch.randperm(len(values), generator=generator)[:count].tolist()]
