from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from quant.eval.metrics.paired import Frames
from quant.eval.report.sprites import Sheet, amplification, reduced, sheet, to_bytes


def _video(count: int, height: int = 6, width: int = 9) -> Frames:
    return np.random.default_rng(count).random((count, height, width, 3), dtype=np.float32)


def _played(shown: Sheet) -> npt.NDArray[np.uint8]:
    """The frames of a sheet, cut out as the page's script does."""
    picture = np.asarray(Image.open(io.BytesIO(shown.png)))
    cut = []
    for index in range(shown.frames):
        left, top = index % shown.columns * shown.width, index // shown.columns * shown.height
        cut.append(picture[top : top + shown.height, left : left + shown.width])
    return np.stack(cut)


@pytest.mark.parametrize("count", [1, 2, 4, 5, 17])
def test_a_sheet_holds_every_frame_within_a_rounding_to_8_bits(count: int) -> None:
    video = _video(count)
    shown = sheet(video)
    assert (shown.frames, shown.height, shown.width) == (count, 6, 9)
    played = _played(shown)
    assert np.abs(played / 255 - video).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (5, 3, 2), (16, 4, 4), (17, 5, 4)])
def test_a_sheet_is_about_square_and_holds_no_empty_row(count: int, columns: int, rows: int) -> None:
    shown = sheet(_video(count))
    assert shown.columns == columns
    assert Image.open(io.BytesIO(shown.png)).size == (columns * 9, rows * 6)


def test_the_url_is_the_picture() -> None:
    shown = sheet(_video(3))
    head, _, body = shown.data_url.partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(body, validate=True) == shown.png


def test_bytes_are_rounded_and_clipped() -> None:
    values = np.array([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 127.4 / 255, 1.0, 2.0], dtype=np.float32)
    assert to_bytes(values).tolist() == [0, 0, 0, 1, 127, 255, 255]


@pytest.mark.parametrize(("height", "width", "largest"), [(6, 9, 9), (6, 9, 320)])
def test_a_video_that_fits_is_left_alone(height: int, width: int, largest: int) -> None:
    video = _video(2, height, width)
    assert reduced(video, largest) is video


@pytest.mark.parametrize(("size", "largest", "shape"), [((6, 9), 8, (3, 4)), ((6, 9), 3, (2, 3)), ((8, 4), 4, (4, 2))])
def test_a_larger_one_is_averaged_over_squares(size: tuple[int, int], largest: int, shape: tuple[int, int]) -> None:
    video = _video(2, *size)
    small = reduced(video, largest)
    factor = size[0] // shape[0]
    assert small.shape == (2, *shape, 3)
    assert max(shape) <= largest
    square = video[1, factor : 2 * factor, factor : 2 * factor].mean(axis=(0, 1))
    np.testing.assert_allclose(small[1, 1, 1], square, rtol=1e-6)


@pytest.mark.parametrize(
    ("difference", "factor"), [(1.0, 1), (0.6, 1), (0.5, 2), (0.3, 2), (0.1, 8), (0.01, 64), (1e-6, 256), (0.0, 256)]
)
def test_a_typical_difference_becomes_half_to_all_of_the_range(difference: float, factor: int) -> None:
    differences = [np.full((2, 3, 4, 4, 3), difference, dtype=np.float32)]
    assert amplification(differences) == factor
    assert difference < 0.5 / 256 or 0.5 <= difference * factor <= 1


def test_one_broken_video_does_not_darken_the_others() -> None:
    differences = np.full((5, 3, 4, 4, 3), 0.1, dtype=np.float32)
    differences[0] = 1
    assert amplification([differences]) == 8


def test_one_factor_is_for_every_model() -> None:
    models = [np.full((2, 3, 4, 4, 3), value, dtype=np.float32) for value in (0.1, 0.1, 0.9)]
    assert amplification(models) == 8
    assert amplification([]) == 256
