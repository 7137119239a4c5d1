"""Videos as they are written: 16 or 8 bits of each colour without loss, and what every player shows.

PSNR of what a pipeline returned against what 16 bits keep of it is about 107 dB: below what any candidate reaches.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from quant.errors import QuantError
from quant.files.videos import Bytes, Frames
from quant.files.whole_files import whole_file

Words = npt.NDArray[np.uint16]

DEEP = 65535
#: Frames a second where nothing says how many.
FPS = 16.0
#: Pixels that a preview is wide at least: players enlarge small videos with a blur.
PREVIEW_WIDTH = 256


def to_words(video: Frames) -> Words:
    """[F, H, W, 3] in 0..1 as whole numbers of 16 bits; what lies outside is clipped."""
    return np.rint(np.clip(video, 0, 1).astype(np.float64) * DEEP).astype(np.uint16)


def to_frames(words: Words) -> Frames:
    """The inverse of `to_words`, float32."""
    return (words / np.float64(DEEP)).astype(np.float32)


def to_bytes(words: Words) -> Bytes:
    """[F, H, W, 3] of 16 bits as 8 bits, to the nearest."""
    return ((words.astype(np.uint32) * 255 + DEEP // 2) // DEEP).astype(np.uint8)


def write_words(path: Path, words: Words, *, fps: float, comment: str | None = None) -> None:
    """Writes [F, H, W, 3] without loss (FFV1, 16 bits of each colour), in one step."""
    options = {"level": "3", "slicecrc": "1", "coder": "1"}
    how = _How("rgb48le", "ffv1", "gbrp16le", "matroska", options)
    _encode(path, words, how, fps=fps, comment=comment)


def read_words(path: Path) -> Words:
    """What `write_words` wrote, [F, H, W, 3]. Raises QuantError for a file that cannot be decoded."""
    import av

    try:
        with av.open(str(path)) as file:
            frames = [frame.reformat(format="gbrp16le").to_ndarray(format="rgb48le") for frame in file.decode(video=0)]
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        raise QuantError(f"{path}: cannot be decoded: {error}") from None
    if not frames:
        raise QuantError(f"{path}: holds no frames")
    return np.stack(frames)


def write_bytes(path: Path, video: Bytes, *, fps: float, comment: str | None = None) -> None:
    """Writes [F, H, W, 3] without loss (H.264 of red, green and blue), in one step. Not every player shows it."""
    how = _How("rgb24", "libx264rgb", "rgb24", "mp4", {"crf": "0", "preset": "medium"})
    _encode(path, video, how, fps=fps, comment=comment)


def write_playable(path: Path, video: Bytes, *, fps: float, comment: str | None = None) -> None:
    """Writes [F, H, W, 3] as every player shows it (H.264, 4:2:0), in one step.

    Such a video has an even height and width: the last row or column of an odd one is there twice.
    """
    even = np.pad(video, ((0, 0), (0, video.shape[1] % 2), (0, video.shape[2] % 2), (0, 0)), mode="edge")
    how = _How("rgb24", "libx264", "yuv420p", "mp4", {"crf": "14", "preset": "medium"})
    _encode(path, even, how, fps=fps, comment=comment)


def write_preview(path: Path, video: Bytes, *, fps: float) -> None:
    """As `write_playable`, small videos enlarged by a whole factor."""
    factor = -(-PREVIEW_WIDTH // video.shape[2])
    write_playable(path, video.repeat(factor, axis=1).repeat(factor, axis=2), fps=fps)


def comment_of(path: Path) -> str | None:
    """The comment that a video was written with; None where it has none, or cannot be read."""
    import av

    try:
        with av.open(str(path)) as file:
            return next((text for name, text in file.metadata.items() if name.lower() == "comment"), None)
    except (av.FFmpegError, OSError, ValueError):
        return None


class _How(NamedTuple):
    """How a video is encoded: the pixels that are given and those that are stored, the codec, the file."""

    given: str
    codec: str
    stored: str
    container: str
    options: dict[str, str]


def _encode(path: Path, video: npt.NDArray[Any], how: _How, *, fps: float, comment: str | None = None) -> None:
    import av

    # Without "bitexact" the file holds random ids and the library's version.
    flags = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if how.container == "mp4" else {})
    with whole_file(path) as unfinished, av.open(str(unfinished), "w", format=how.container, options=flags) as file:
        stream: Any = file.add_stream(how.codec, rate=Fraction(fps).limit_denominator(1001), options=how.options)
        stream.height, stream.width, stream.pix_fmt = video.shape[1], video.shape[2], how.stored
        # More threads cut the picture into other pieces, and so make another file.
        stream.codec_context.thread_count = 1
        if comment is not None:
            file.metadata["comment"] = comment
        for picture in video:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=how.given)
            file.mux(stream.encode(frame.reformat(format=how.stored)))
        file.mux(stream.encode())
