"""Encoded videos, decoded frame by frame by PyAV, and the bytes of a file or an address."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quant.errors import QuantError

Bytes = npt.NDArray[np.uint8]
#: Values of 0..1, as pipelines return them.
Frames = npt.NDArray[np.float32]


def decoded(file: Path | bytes, *, name: str = "", error: type[QuantError] = QuantError) -> Iterator[Bytes]:
    """The frames of any video, [H, W, 3] of 8 bits, as they are asked for; a picture is a video of one.

    Args:
        file: a path, or an encoded video, which `name` names in messages.
        error: what is raised.

    Raises:
        QuantError: of the class `error`: it cannot be decoded, or PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        raise error("reading videos needs PyAV: pip install av") from None
    try:
        with av.open(io.BytesIO(file) if isinstance(file, bytes) else str(file), "r") as opened:
            for frame in opened.decode(video=0):
                yield frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    except (av.FFmpegError, OSError, IndexError, ValueError) as cause:
        raise error(f"{_name(file, name)}: cannot be decoded: {cause}") from None


def read_video(file: Path | bytes, frames: int | None = None, *, name: str = "") -> Bytes:
    """The first `frames` (default: all) of any video, [F, H, W, 3] of 8 bits.

    Raises:
        QuantError: as `decoded`, or it is shorter.
    """
    found: list[Bytes] = []
    for frame in decoded(file, name=name):
        found.append(frame)
        if len(found) == frames:
            break
    if not found or len(found) < (frames or 1):
        raise QuantError(f"{_name(file, name)}: {len(found)} frames, {frames or 1} are needed")
    return np.stack(found)


def _name(file: Path | bytes, name: str) -> str:
    return name or (str(file) if isinstance(file, Path) else "a video")


def content_of(place: str) -> bytes:
    """The bytes at a path, or at an address of a data set on a hub. Raises OSError where it cannot be read."""
    import fsspec

    with fsspec.open(place, "rb") as file:
        return bytes(file.read())
