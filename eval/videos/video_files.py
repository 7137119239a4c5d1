"""Videos on disk: 16-bit frames without loss to score, 8-bit ones without loss to look at closely, and previews.

PSNR of what a pipeline returned against what 16 bits keep of it is about 107 dB: below what any candidate reaches.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.errors import QuantError
from quant.eval.frames import Frames
from quant.eval.storage.files import whole_file

Words = npt.NDArray[np.uint16]
Bytes = npt.NDArray[np.uint8]

DEEP = 65535
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


def write_words(path: Path, words: Words, *, fps: float) -> None:
    """Writes [F, H, W, 3] without loss (FFV1, 16 bits of each colour), in one step."""
    options = {"level": "3", "slicecrc": "1", "coder": "1"}
    _encode(path, words, "rgb48le", "ffv1", "gbrp16le", fps=fps, container="matroska", options=options)


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


def write_bytes(path: Path, video: Bytes, *, fps: float) -> None:
    """Writes [F, H, W, 3] without loss (H.264 of red, green and blue), in one step. Not every player shows it."""
    options = {"crf": "0", "preset": "medium"}
    _encode(path, video, "rgb24", "libx264rgb", "rgb24", fps=fps, container="mp4", options=options)


def write_preview(path: Path, video: Bytes, *, fps: float) -> None:
    """Writes [F, H, W, 3] as browsers play it (H.264, 4:2:0), in one step; small ones enlarged by a whole factor."""
    factor = -(-PREVIEW_WIDTH // video.shape[2])
    large = video.repeat(factor, axis=1).repeat(factor, axis=2)
    even = np.pad(large, ((0, 0), (0, large.shape[1] % 2), (0, large.shape[2] % 2), (0, 0)), mode="edge")
    options = {"crf": "14", "preset": "medium"}
    _encode(path, even, "rgb24", "libx264", "yuv420p", fps=fps, container="mp4", options=options)


def _encode(
    path: Path,
    video: npt.NDArray[Any],
    given: str,
    codec: str,
    stored: str,
    *,
    fps: float,
    container: str,
    options: dict[str, str],
) -> None:
    import av

    # Without "bitexact" the file holds random ids and the library's version.
    flags = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if container == "mp4" else {})
    with whole_file(path) as unfinished, av.open(str(unfinished), "w", format=container, options=flags) as file:
        stream: Any = file.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        stream.height, stream.width, stream.pix_fmt = video.shape[1], video.shape[2], stored
        # More threads cut the picture into other pieces, and so make another file.
        stream.codec_context.thread_count = 1
        for picture in video:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=given)
            file.mux(stream.encode(frame.reformat(format=stored)))
        file.mux(stream.encode())
