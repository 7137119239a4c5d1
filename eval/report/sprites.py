"""Clips as lossless pictures: all frames of a video in one PNG, so a page can play it without a codec."""

import base64
import io
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from quant.eval.metrics.paired import Frames

#: A page shows clips up to this many pixels wide or high at their own size, larger ones reduced.
LARGEST = 320


@dataclass(frozen=True)
class Sheet:
    """A PNG of `frames` pictures, each `width` x `height`, in rows of `columns`, left to right, top to bottom."""

    png: bytes
    frames: int
    columns: int
    width: int
    height: int

    @property
    def data_url(self) -> str:
        return "data:image/png;base64," + base64.b64encode(self.png).decode("ascii")


def sheet(video: Frames) -> Sheet:
    """The sheet of `video` [F, H, W, 3] in 0..1: what a pixel holds, rounded to 8 bits."""
    count, height, width, channels = video.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.zeros((rows * columns, height, width, channels), dtype=np.uint8)
    grid[:count] = to_bytes(video)
    grid = grid.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    picture = Image.fromarray(grid.reshape(rows * height, columns * width, channels))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return Sheet(file.getvalue(), count, columns, width, height)


def to_bytes(video: Frames) -> npt.NDArray[np.uint8]:
    """Values in 0..1 as 0..255, rounded to the nearest; what lies outside is clipped."""
    return np.rint(np.clip(video, 0, 1) * 255).astype(np.uint8)


def reduced(video: Frames, largest: int = LARGEST) -> Frames:
    """`video` [F, H, W, 3] averaged over squares of pixels until neither side is longer than `largest`."""
    count, height, width, channels = video.shape
    factor = math.ceil(max(height, width) / largest)
    if factor == 1:
        return video
    height, width = height // factor, width // factor
    cropped = video[:, : height * factor, : width * factor]
    squares = cropped.reshape(count, height, factor, width, factor, channels)
    means: Frames = squares.mean(axis=(2, 4), dtype=np.float32)
    return means


def amplification(differences: Sequence[Frames]) -> int:
    """The power of two, 1..256, that makes a typical one of `differences` [N, F, H, W, 3] (>= 0) visible.

    One factor for all of them, so brightness can be compared. Typical: of each video the value that 1% of its
    own exceed, of those the median. It comes to lie between a half and 1; what exceeds 1 is clipped.
    """
    high = [float(np.quantile(video, 0.99)) for videos in differences for video in videos]
    typical = statistics.median(high) if high else 0.0
    return 256 if typical == 0 else int(min(256, max(1, 2 ** math.floor(math.log2(1 / typical)))))
