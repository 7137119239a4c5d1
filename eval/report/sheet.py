"""One picture of a run: a row a sample, and in it what its video was made from, the original's, each candidate's.

It is for looking at, where no browser is at hand. Metrics were taken from the frames before they were rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.errors import QuantError
from quant.eval.metrics.table import leading
from quant.eval.report.players import stored_frames, to_bytes
from quant.eval.report.sources import sources
from quant.eval.results.recorded import Recorded, read, sample_score, stored_share
from quant.eval.results.words import figure, share
from quant.files.whole_files import whole_file
from quant.text import cut, printable

Bytes = npt.NDArray[np.uint8]

#: Frames of each video: the first, the middle, the last. How wide one is at least and at most, and the room after it.
FRAMES, WIDTH, WIDEST, GAP = 3, 72, 240, 3
_MARGIN, _TEXT, _LINE, _LETTER = 14, 15, 19, 8
_INK, _SOFT, _PAPER = (28, 30, 34), (110, 112, 118), (255, 255, 255)


@dataclass(frozen=True)
class Cell:
    """The frames of a video side by side, as `in_line` has them or None where it is missing, and words under them."""

    picture: Bytes | None
    words: str = ""


@dataclass(frozen=True)
class Strip:
    """A row of the picture: the prompt, and as many cells as there are headings."""

    title: str
    cells: tuple[Cell, ...]


def write_sheet(run: Path, out: Path) -> None:
    """Writes a PNG of the videos of a run folder. Raises QuantError where there are no results, or the disk refuses."""
    recorded = read(run)
    names = sorted({name for sample in recorded.samples for name in sources(recorded, sample, 1)})
    headings = [(f"source ({name})", "") for name in names]
    headings += [(model["name"], _facts(model)) for model in recorded.models]
    picture = drawn(headings, [_strip(recorded, sample, names) for sample in recorded.samples])
    with whole_file(out) as unfinished:
        picture.save(unfinished, format="png")


def drawn(headings: Sequence[tuple[str, str]], strips: Sequence[Strip]) -> Any:
    """A PIL picture: two lines of words over each column, and under them the strips.

    A column is as wide as the widest of its cells.
    """
    from PIL import Image, ImageDraw

    columns = [[strip.cells[at] for strip in strips] for at in range(len(headings))]
    widths = [max(_size(cell)[0] for cell in cells) for cells in columns]
    across = sum(widths) + 2 * _MARGIN * len(widths)
    titles = [wrap(printable(strip.title), across // _LETTER) for strip in strips]
    heights = [
        len(lines) * _LINE + max(_size(cell)[1] for cell in strip.cells) + _LINE + _MARGIN
        for lines, strip in zip(titles, strips, strict=True)
    ]
    picture = Image.new("RGB", (across, 3 * _LINE + sum(heights)), _PAPER)
    draw = ImageDraw.Draw(picture)

    def write(x: int, y: int, words: str, colour: tuple[int, int, int]) -> None:
        draw.text((x, y), words, fill=colour, font_size=_TEXT)

    places = [_MARGIN + sum(widths[:at]) + 2 * _MARGIN * at for at in range(len(widths))]
    for x, width, (name, words) in zip(places, widths, headings, strict=True):
        write(x, 8, cut(printable(name), width // _LETTER), _INK)
        write(x, 8 + _LINE, cut(printable(words), width // _LETTER), _SOFT)
    top = 3 * _LINE
    for lines, strip, height in zip(titles, strips, heights, strict=True):
        draw.line((_MARGIN, top - 6, across - _MARGIN, top - 6), fill=(224, 224, 220))
        for number, line in enumerate(lines):
            write(_MARGIN, top + number * _LINE, line, _INK)
        y = top + len(lines) * _LINE + 2
        for x, cell in zip(places, strip.cells, strict=True):
            if cell.picture is not None:
                picture.paste(Image.fromarray(cell.picture), (x, y))
            write(x, y + _size(cell)[1] + 1, cell.words, _SOFT)
        top += height
    return picture


def in_line(video: Bytes) -> Bytes:
    """A few frames of a video [F, H, W, 3] side by side, enlarged by a whole factor where they are small, or shrunk."""
    from PIL import Image

    places = np.linspace(0, len(video) - 1, FRAMES).round().astype(int)
    height, width = video.shape[1:3]
    if width > WIDEST:
        size = (WIDEST, max(1, round(height * WIDEST / width)))
        frames = np.stack([np.asarray(Image.fromarray(video[place]).resize(size)) for place in places])
    else:
        factor = -(-WIDTH // width)
        frames = video[places].repeat(factor, axis=1).repeat(factor, axis=2)
    spaced = np.pad(frames, ((0, 0), (0, 0), (0, GAP), (0, 0)), constant_values=255)
    return np.ascontiguousarray(spaced.transpose(1, 0, 2, 3).reshape(spaced.shape[1], -1, 3))


def _size(cell: Cell) -> tuple[int, int]:
    """Width and height of a cell's picture, and of an empty place."""
    return (FRAMES * (WIDTH + GAP), WIDTH) if cell.picture is None else (cell.picture.shape[1], cell.picture.shape[0])


def _strip(recorded: Recorded, sample: Mapping[str, Any], names: Sequence[str]) -> Strip:
    made = [_frames(recorded, model, sample) for model in recorded.models]
    given = sources(recorded, sample, next((len(video) for video in made if video is not None), None))
    videos = (given.get(name) for name in names)
    cells = [Cell(None if video is None or isinstance(video, str) else in_line(video)) for video in videos]
    for model, video in zip(recorded.models, made, strict=True):
        cells.append(Cell(None if video is None else in_line(video), _score(model, sample)))
    return Strip(sample["prompt"], tuple(cells))


def _frames(recorded: Recorded, model: Mapping[str, Any], sample: Mapping[str, Any]) -> Bytes | None:
    try:
        return to_bytes(stored_frames(recorded.folder / "frames" / model["fingerprint"] / f"{sample['id']}.mkv"))
    except QuantError:
        return None


def _score(model: Mapping[str, Any], sample: Mapping[str, Any]) -> str:
    value = sample_score(model, sample["id"], leading().key)
    return "" if value is None else figure(value, leading())


def _facts(model: Mapping[str, Any]) -> str:
    part, scheme = stored_share(model), str(model["scheme"])
    return scheme if part is None else f"{share(part)} of bf16, {scheme}"
