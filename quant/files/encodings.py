"""The files that a video may be written into, best known first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quant.errors import QuantError
from quant.files.video_files import Words, to_bytes, write_bytes, write_playable, write_words


class Write(Protocol):
    """Writes the frames [F, H, W, 3] of 16 bits, in one step."""

    def __call__(self, path: Path, words: Words, *, fps: float, comment: str | None = None) -> None: ...


@dataclass(frozen=True)
class Encoding:
    """A kind of file.

    Attributes:
        suffix: of its name.
        lossless: does it keep what the pipeline gave, to the bits that it has?
        write: writes it.
        summary: what is in it.
    """

    suffix: str
    lossless: bool
    write: Write
    summary: str


def _playable(path: Path, words: Words, *, fps: float, comment: str | None = None) -> None:
    write_playable(path, to_bytes(words), fps=fps, comment=comment)


def _exact_bytes(path: Path, words: Words, *, fps: float, comment: str | None = None) -> None:
    write_bytes(path, to_bytes(words), fps=fps, comment=comment)


#: The first that fits what is asked for is taken.
ENCODINGS = (
    Encoding(".mp4", False, _playable, "H.264"),
    Encoding(".mkv", True, write_words, "FFV1, 16 bits of each colour without loss"),
    Encoding(".mp4", True, _exact_bytes, "H.264, 8 bits of each colour without loss"),
)


def encoding_of(path: Path, *, lossless: bool) -> Encoding:
    """What a file is written as, by its suffix and whether nothing may be lost. Raises QuantError for any other."""
    for each in ENCODINGS:
        if each.suffix == path.suffix.lower() and (each.lossless or not lossless):
            return each
    raise QuantError(f"{path}: is to be a video; name it {' or '.join(suffixes())}")


def encoding_for(*, lossless: bool) -> Encoding:
    """What files are written as whose names are ours to choose."""
    return next(each for each in ENCODINGS if each.lossless or not lossless)


def suffixes() -> list[str]:
    """Those that videos may have, each once."""
    return list(dict.fromkeys(each.suffix for each in ENCODINGS))
