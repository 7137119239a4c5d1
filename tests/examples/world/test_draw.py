from __future__ import annotations

import pytest
import torch

from quant.eval.shapes.draw import FRAMES, MARGIN, SIZE, coverage, draw, path
from quant.eval.shapes.vocabulary import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    SHAPES,
    SIZES,
    SPEEDS,
    ShapeClip,
    all_clips,
    caption,
)

CLIPS = all_clips()[::37]


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _offsets(half: float, step: float) -> tuple[torch.Tensor, torch.Tensor]:
    line = torch.arange(-half, half + step / 2, step)
    return line[None, :], line[:, None]


@pytest.mark.parametrize("radius", SIZES.values())
@pytest.mark.parametrize(
    ("shape", "area"), [("circle", torch.pi), ("square", (2 * 0.86) ** 2), ("triangle", 1.8 * 1.8 / 1.8)]
)
def test_coverage_adds_up_to_the_shapes_area(shape: str, area: float, radius: float) -> None:
    dx, dy = _offsets(12, 0.25)
    covered = coverage(shape, radius, dx, dy)
    assert covered.min() == 0
    assert covered.max() == 1
    assert covered.sum().item() * 0.25**2 == pytest.approx(area * radius**2, rel=0.03)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_fits_in_its_square_and_is_symmetric(shape: str) -> None:
    dx, dy = _offsets(12, 0.25)
    covered = coverage(shape, 8.0, dx, dy)
    outside = (dx.abs() > 9) | (dy.abs() > 9)  # a pixel more, for the soft edge
    assert covered[outside].max() == 0
    torch.testing.assert_close(covered, covered.flip(1))


def test_a_triangle_points_up() -> None:
    dx, dy = _offsets(12, 0.25)
    rows = coverage("triangle", 8.0, dx, dy).sum(dim=1)
    assert rows[dy[:, 0] > 0].sum() > 2 * rows[dy[:, 0] < 0].sum()


def test_no_other_shape_is_drawn() -> None:
    with pytest.raises(ValueError, match="'star' is no shape"):
        coverage("star", 5.0, torch.zeros(1), torch.zeros(1))


@pytest.mark.parametrize("clip", CLIPS, ids=caption)
def test_a_path_is_straight_and_steady_and_inside(clip: ShapeClip) -> None:
    centres = path(clip, _seeded(CLIPS.index(clip)))
    steps = centres.diff(dim=0)
    expected = torch.tensor(DIRECTIONS[clip.direction]) * SPEEDS[clip.speed] / (FRAMES - 1)
    torch.testing.assert_close(steps, expected.expand_as(steps), atol=1e-4, rtol=0)
    reach = SIZES[clip.size] + MARGIN
    assert centres.min() >= reach - 1e-4
    assert centres.max() <= SIZE - reach + 1e-4


def test_the_place_follows_the_generator() -> None:
    paths = [path(CLIPS[0], _seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(paths[0], paths[1])
    assert not torch.equal(paths[0], paths[2])


def test_videos_have_the_colours_of_their_clips() -> None:
    videos = draw(CLIPS, _seeded())
    assert videos.shape == (len(CLIPS), 3, FRAMES, SIZE, SIZE)
    assert videos.dtype == torch.float32
    assert videos.abs().max() <= 1
    for video, clip in zip(videos, CLIPS, strict=True):
        bytes_ = ((video + 1) * 127.5).round()
        corners = bytes_[:, :, [0, 0, -1, -1], [0, -1, 0, -1]].flatten(1)
        assert torch.equal(corners, torch.tensor(BACKGROUNDS[clip.background]).float()[:, None].expand_as(corners))
        colour = torch.tensor(COLOURS[clip.colour]).view(3, 1, 1, 1)
        whole = (bytes_ == colour).all(dim=0).sum(dim=(1, 2))
        assert whole.min() > 30


def test_a_clip_does_not_depend_on_how_many_follow() -> None:
    assert torch.equal(draw(CLIPS[:3], _seeded())[:2], draw(CLIPS[:2], _seeded()))
