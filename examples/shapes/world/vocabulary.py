"""What a clip of the toy world can show, the sentence that says so, and the split into trained and held-out.

One clip shows one shape of one colour and size that moves in one direction at one speed over one plain
background: 2 x 6 x 3 x 2 x 4 x 4 = 1152 combinations. A tenth of them is never trained on, so a model that
draws those has learned the words and not the list.
"""

import hashlib
import itertools
import re
from dataclasses import dataclass, fields

Rgb = tuple[int, int, int]

#: Nominal radius in pixels; a frame is 32 x 32.
SIZES: dict[str, float] = {"small": 5.5, "large": 8.0}
#: 8-bit sRGB.
COLOURS: dict[str, Rgb] = {
    "red": (225, 35, 35),
    "green": (35, 175, 60),
    "blue": (45, 75, 235),
    "yellow": (245, 225, 40),
    "purple": (170, 50, 205),
    "cyan": (50, 215, 225),
}
SHAPES: tuple[str, ...] = ("circle", "square", "triangle")
#: Pixels travelled from the first frame to the last.
SPEEDS: dict[str, float] = {"slowly": 6.0, "quickly": 12.0}
#: Unit steps (x, y); y points down.
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
#: 8-bit sRGB.
BACKGROUNDS: dict[str, Rgb] = {
    "black": (12, 12, 12),
    "grey": (128, 128, 128),
    "white": (243, 243, 243),
    "brown": (112, 74, 40),
}

#: Every attribute with its possible values, in the order of the fields of `ShapeClip`.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "colour": tuple(COLOURS),
    "shape": SHAPES,
    "speed": tuple(SPEEDS),
    "direction": tuple(DIRECTIONS),
    "background": tuple(BACKGROUNDS),
}


@dataclass(frozen=True)
class ShapeClip:
    """The attributes of one clip. Where in the frame the shape moves is left open."""

    size: str
    colour: str
    shape: str
    speed: str
    direction: str
    background: str

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value not in ATTRIBUTES[field.name]:
                raise ValueError(f"{value!r} is no {field.name}: choose from {', '.join(ATTRIBUTES[field.name])}")


def caption(clip: ShapeClip) -> str:
    """The one sentence that describes `clip`."""
    return (
        f"a {clip.size} {clip.colour} {clip.shape} moves {clip.speed} {clip.direction} "
        f"over a {clip.background} background"
    )


_CAPTION = re.compile(
    r"a (?P<size>\w+) (?P<colour>\w+) (?P<shape>\w+) moves (?P<speed>\w+) (?P<direction>\w+) "
    r"over a (?P<background>\w+) background"
)


def parse_caption(text: str) -> ShapeClip | None:
    """The clip that `text` describes, or None where it is not a caption of this vocabulary."""
    match = _CAPTION.fullmatch(" ".join(text.split()))
    if match is None:
        return None
    try:
        return ShapeClip(**match.groupdict())
    except ValueError:
        return None


def all_clips() -> list[ShapeClip]:
    """Every combination, in the order of the vocabulary."""
    return [ShapeClip(*values) for values in itertools.product(*ATTRIBUTES.values())]


def _shuffled() -> list[ShapeClip]:
    """Every combination, ordered by a hash of its caption: mixed, and the same on every machine for ever."""
    return sorted(all_clips(), key=lambda clip: hashlib.sha256(caption(clip).encode()).digest())


def heldout_clips() -> list[ShapeClip]:
    """The tenth of the combinations (115 of 1152) that no training stage may see."""
    clips = _shuffled()
    return clips[: len(clips) // 10]


def trained_clips() -> list[ShapeClip]:
    """The other nine tenths."""
    clips = _shuffled()
    return clips[len(clips) // 10 :]


def judged_clips() -> list[ShapeClip]:
    """The 64 combinations a model is judged on, none of which it was trained on."""
    return heldout_clips()[:64]


def calibration_clips() -> list[ShapeClip]:
    """64 trained combinations to calibrate a quantizer on; no judged one can be among them."""
    return trained_clips()[:64]
