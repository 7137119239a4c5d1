from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from quant.errors import ModelError, QuantError
from quant.files.video_files import write_bytes
from quant.files.videos import Bytes, decoded, read_video

VIDEO: Bytes = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)


def test_a_clip_is_cut_but_never_stretched(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.mp4", VIDEO, fps=8)
    assert np.array_equal(read_video(tmp_path / "a.mp4", 3), VIDEO[:3])
    with pytest.raises(QuantError, match=r"a\.mp4: 5 frames, 6 are needed"):
        read_video(tmp_path / "a.mp4", 6)


def test_frames_come_one_by_one_of_bytes_too(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a.mp4", VIDEO, fps=8)
    frames = decoded((tmp_path / "a.mp4").read_bytes(), name="row 1")
    assert np.array_equal(next(frames), VIDEO[0])
    assert len(list(frames)) == 4


def test_what_is_no_video_is_named_in_the_callers_words() -> None:
    with pytest.raises(ModelError, match=r"^row 1: cannot be decoded"):
        list(decoded(b"no video" * 100, name="row 1", error=ModelError))
