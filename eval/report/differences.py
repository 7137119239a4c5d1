"""Amplified differences as small videos that a browser plays, made from the stored 16-bit frames."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quant.eval.report.amplification import to_bytes
from quant.eval.videos.video_files import read_words, to_frames, write_preview


def stored_frames(path: Path) -> npt.NDArray[np.float32]:
    """The frames that metrics were taken from, [F, H, W, 3] in 0..1.

    Raises:
        QuantError: no such file, or one that cannot be decoded.
    """
    return to_frames(read_words(path))


def difference_video(
    original: npt.NDArray[np.float32], candidate: npt.NDArray[np.float32], factor: int, fps: float
) -> bytes:
    """|candidate - original| times `factor`, clipped to 0..1, as an MP4 that browsers play.

    Both are [F, H, W, 3]. Lossy: for looking at, never for measuring.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "difference.mp4"
        write_preview(path, to_bytes(np.abs(candidate - original) * factor), fps=fps)
        return path.read_bytes()
