from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from quant.errors import QuantError
from quant.eval.frames import Frames
from quant.eval.metrics.psnr import paired_psnr
from quant.eval.storage.files import file_sha256
from quant.files.video_files import (
    read_words,
    to_bytes,
    to_frames,
    to_words,
    write_bytes,
    write_preview,
    write_words,
)
from quant.files.videos import read_video

SHAPES = [(5, 16, 16, 3), (3, 17, 31, 3), (1, 2, 2, 3), (2, 96, 130, 3)]


def noise(shape: tuple[int, ...]) -> Frames:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_16_bits_come_back_bit_by_bit_and_make_the_same_file_twice(tmp_path: Path, shape: tuple[int, ...]) -> None:
    words = to_words(noise(shape))
    words[0, 0, 0] = (0, 65535, 1)
    write_words(tmp_path / "a.mkv", words, fps=16)
    write_words(tmp_path / "b.mkv", words, fps=16)
    assert np.array_equal(read_words(tmp_path / "a.mkv"), words)
    assert file_sha256(tmp_path / "a.mkv") == file_sha256(tmp_path / "b.mkv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mkv", "b.mkv"]


@pytest.mark.parametrize("shape", SHAPES)
def test_8_bits_come_back_bit_by_bit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    video = to_bytes(to_words(noise(shape)))
    write_bytes(tmp_path / "a.mp4", video, fps=7.5)
    assert np.array_equal(read_video(tmp_path / "a.mp4"), video)


def test_16_bits_keep_107_db() -> None:
    video = noise((1, 4, 64, 64, 3))
    # Rounding to steps of d has the mean square d^2 / 12.
    expected = -10 * np.log10((1 / 65535) ** 2 / 12)
    assert paired_psnr(video, to_frames(to_words(video[0]))[None])[0] == pytest.approx(expected, abs=0.1)
    assert expected == pytest.approx(107.1, abs=0.05)


def test_words_are_clipped_and_bytes_are_the_nearest() -> None:
    assert to_words(np.array([-1, 0, 0.5, 1, 2], dtype=np.float32)).tolist() == [0, 0, 32768, 65535, 65535]
    words = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_bytes(words), np.rint(words / 257.0).astype(np.uint8))
    assert np.array_equal(to_words(to_frames(words)), words)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 16, 16, 3), (256, 256)),
        ((2, 17, 31, 3), (154, 280)),
        ((2, 31, 301, 3), (32, 302)),
        ((1, 4, 300, 3), (4, 300)),
    ],
)
def test_previews_are_what_browsers_play(tmp_path: Path, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    video = np.full(shape, 200, dtype=np.uint8)
    write_preview(tmp_path / "a.mp4", video, fps=8)
    with av.open(str(tmp_path / "a.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width) == size
        assert stream.average_rate == 8
    assert abs(read_video(tmp_path / "a.mp4").astype(int) - 200).max() <= 2
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # it plays before all of it has come


def test_enlarged_previews_keep_pixels_as_squares(tmp_path: Path) -> None:
    video = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    video[0, 4:8, 4:8] = 255
    write_preview(tmp_path / "a.mp4", video, fps=8)
    small = read_video(tmp_path / "a.mp4")[:, 8::16, 8::16]  # the middle of each square
    assert abs(small.astype(int) - video).max() < 30


def test_files_that_are_no_videos_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.mkv").write_bytes(b"no video" * 100)
    for read in (read_words, read_video):
        with pytest.raises(QuantError, match=r"a\.mkv: cannot be decoded"):
            read(tmp_path / "a.mkv")
