from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from quant.eval.networks.extraction import (
    as_tensor,
    centre_crop,
    frame_indices,
    normalize,
    shortest_edge,
    squash,
    squash_by_corners,
    stretch,
)


def _ramp(height: int, width: int) -> Tensor:
    """A frame whose pixel at (y, x) is 100 y + x: [1, 1, H, W]."""
    return (100 * torch.arange(height)[:, None] + torch.arange(width)).float()[None, None]


def test_a_video_becomes_a_tensor_with_its_channels_in_front() -> None:
    video = np.random.default_rng(0).random((2, 4, 5, 3), dtype=np.float32)
    found = as_tensor(video)
    assert found.shape == (2, 3, 4, 5)
    assert found[1, 2, 3, 4] == video[1, 3, 4, 2]


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 3, 4, 5), (0, 4, 5, 3), (1, 2, 4, 5, 3)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="a video is"):
        as_tensor(np.zeros(shape, dtype=np.float32))


def test_values_that_are_no_numbers_are_refused() -> None:
    video = np.zeros((1, 2, 2, 3), dtype=np.float32)
    video[0, 1, 1, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        as_tensor(video)


@pytest.mark.parametrize(
    ("available", "wanted", "indices"),
    [
        (16, 16, list(range(16))),
        (5, 3, [0, 2, 4]),
        (9, 4, [0, 3, 5, 8]),
        (2, 4, [0, 0, 1, 1]),
        (1, 3, [0, 0, 0]),
        (7, 1, [0]),
    ],
)
def test_frames_are_chosen_evenly(available: int, wanted: int, indices: list[int]) -> None:
    assert frame_indices(available, wanted) == indices


@given(available=st.integers(1, 200), wanted=st.integers(2, 64))
def test_the_first_and_the_last_frame_are_always_chosen(available: int, wanted: int) -> None:
    found = frame_indices(available, wanted)
    assert len(found) == wanted and found == sorted(found)
    assert found[0] == 0 and found[-1] == available - 1


def test_a_doubled_picture_by_centres_and_by_corners() -> None:
    """By centres the pixel i of the output lies at (i + 1/2) / 2 - 1/2, by corners at i / 2; both stay inside."""
    centres = squash(_ramp(4, 4), 8)[0, 0]
    corners = squash_by_corners(_ramp(4, 4), 8)[0, 0]
    assert centres[0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    assert corners[0].tolist() == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3]
    assert corners[:, 0].tolist() == [0, 50, 100, 150, 200, 250, 300, 300]
    assert corners[3, 5] == 150 + 2.5


def test_a_halved_picture_by_centres_and_by_corners() -> None:
    assert squash(_ramp(8, 8), 4)[0, 0, 0].tolist() == [0.5 + 50 + x for x in (0, 2, 4, 6)]
    assert squash_by_corners(_ramp(8, 8), 4)[0, 0, 0].tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize("resize", [squash, squash_by_corners])
def test_what_fits_is_left_as_it_is_and_another_aspect_is_squashed(resize: Callable[[Tensor, int], Tensor]) -> None:
    frames = torch.rand(2, 3, 7, 7)
    torch.testing.assert_close(resize(frames, 7), frames)
    assert resize(torch.full((2, 3, 4, 9), 0.25), 6).equal(torch.full((2, 3, 6, 6), 0.25))


@pytest.mark.parametrize("size", [(13, 17), (40, 52), (20, 52)])
def test_stretching_is_what_pil_does(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).random((20, 26), dtype=np.float32)
    expected = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))
    found = stretch(torch.from_numpy(picture)[None, None], size)[0, 0]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("height", "width", "result"),
    [(20, 30, (10, 15)), (30, 20, (15, 10)), (21, 32, (10, 15)), (20, 39, (10, 19)), (10, 10, (10, 10))],
)
def test_the_shorter_side_sets_the_size(height: int, width: int, result: tuple[int, int]) -> None:
    assert shortest_edge(torch.zeros(1, 3, height, width), 10).shape[2:] == result


def test_the_middle_is_cut_out_and_what_is_missing_is_black() -> None:
    frames = _ramp(4, 7)
    assert centre_crop(frames, (2, 3)).equal(frames[..., 1:3, 2:5])
    padded = centre_crop(frames, (6, 7))
    assert padded[..., 1:5, :].equal(frames)
    assert padded[..., (0, 5), :].abs().sum() == 0
    # Where the rest is odd, the larger half is behind, as in torchvision.
    assert centre_crop(_ramp(5, 8), (2, 3)).equal(_ramp(5, 8)[..., 1:3, 2:5])
    assert centre_crop(frames + 1, (7, 8))[..., 1:5, 0:7].equal(frames + 1)


def test_channels_are_normalized_one_by_one() -> None:
    found = normalize(torch.ones(2, 3, 4, 4), (0.5, 0.0, 1.0), (0.5, 2.0, 1.0))
    assert found[:, :, 1, 2].tolist() == [[1.0, 0.5, 0.0]] * 2
