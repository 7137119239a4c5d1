from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from quant.eval.shapes.draw import draw, path
from quant.eval.shapes.judge import Seen, accuracies, agreement, look, stray, track, verdicts
from quant.eval.shapes.vocabulary import ATTRIBUTES, BACKGROUNDS, ShapeClip, all_clips, caption, judged_clips

CLIP = ShapeClip("large", "cyan", "square", "quickly", "right", "brown")
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
PERFECT = dict.fromkeys((*ATTRIBUTES, "all"), 1.0)


def _videos(clips: list[ShapeClip], seed: int = 0) -> torch.Tensor:
    """[N, F, H, W, 3] in 0..1, as a pipeline returns videos."""
    return (draw(clips, torch.Generator().manual_seed(seed)).permute(0, 2, 3, 4, 1) + 1) / 2


@pytest.mark.parametrize(("clips", "seed"), [(all_clips()[::7], 1), (judged_clips(), 2), (judged_clips(), 3)])
def test_drawn_clips_are_all_judged_right(clips: list[ShapeClip], seed: int) -> None:
    assert accuracies(_videos(clips, seed), clips) == PERFECT


def test_eight_bits_and_faint_noise_change_nothing() -> None:
    clips = all_clips()[::23]
    videos = _videos(clips)
    noise = 0.02 * torch.randn(videos.shape, generator=torch.Generator().manual_seed(0))
    assert accuracies(((videos + noise).clamp(0, 1) * 255).round() / 255, clips) == PERFECT


def test_arrays_are_judged_as_tensors_are() -> None:
    video = _videos([CLIP])[0]
    assert look(video.numpy()) == look(video) == look(video.half())


@pytest.mark.parametrize("direction", OPPOSITE)
def test_a_clip_played_backwards_moves_the_other_way(direction: str) -> None:
    clip = replace(CLIP, direction=direction)
    video = _videos([clip])[0].flip(0)
    right = agreement(video, clip)
    assert [name for name in right if not right[name]] == ["direction"]
    assert look(video).direction == OPPOSITE[direction]


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_clip_of_another_value_is_wrong_in_that_alone(attribute: str) -> None:
    for value in ATTRIBUTES[attribute]:
        other = replace(CLIP, **{attribute: value})
        right = agreement(_videos([other])[0], CLIP)
        assert right == {name: name != attribute or value == getattr(CLIP, attribute) for name in ATTRIBUTES}


def test_a_picture_that_stands_still_does_not_move() -> None:
    for clip, video in zip(judged_clips()[:16], _videos(judged_clips()[:16]), strict=True):
        right = agreement(video[:1].expand_as(video), clip)
        assert [name for name in right if not right[name]] == ["speed", "direction"]


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_a_blank_clip_shows_a_background_and_nothing_else(background: str) -> None:
    video = torch.tensor(BACKGROUNDS[background]).expand(17, 32, 32, 3) / 255
    assert look(video) == Seen(None, None, None, None, None, background)


@pytest.mark.parametrize("strength", [0.05, 0.2, 0.5])
def test_noise_moves_nowhere(strength: float) -> None:
    for seed in range(8):
        noise = torch.randn(17, 32, 32, 3, generator=torch.Generator().manual_seed(seed))
        seen = look((0.5 + strength * noise).clamp(0, 1))
        assert (seen.speed, seen.direction) == (None, None)


def test_frames_in_another_order_are_not_the_clip() -> None:
    """Every frame is right and the shape jumps about."""
    clips = [clip for clip in judged_clips() if clip.speed == "quickly"]
    order = torch.randperm(17, generator=torch.Generator().manual_seed(0))
    assert accuracies(_videos(clips)[:, order], clips)["all"] == 0


def test_a_shape_that_jumps_once_does_not_move() -> None:
    """It stands still at one end of its path, and then at the other."""
    clips = judged_clips()
    jumps = [0] * 8 + [16] * 9
    assert accuracies(_videos(clips)[:, jumps], clips)["direction"] == 0


def test_shares_are_over_all_videos() -> None:
    clips = [replace(CLIP, colour=colour) for colour in ("red", "green", "blue", "cyan")]
    wrong = [CLIP, CLIP, CLIP, replace(CLIP, direction="left")]
    found = accuracies(_videos(clips), wrong)
    assert found == {**PERFECT, "colour": 0.25, "direction": 0.75, "all": 0.0}


@pytest.mark.parametrize(("videos", "clips"), [(0, 0), (1, 0), (1, 2)])
def test_there_is_one_clip_a_video(videos: int, clips: int) -> None:
    with pytest.raises(ValueError, match=f"{videos} videos for {clips} clips"):
        accuracies(torch.zeros(videos, 17, 32, 32, 3), [CLIP] * clips)


def test_videos_are_judged_by_their_prompts() -> None:
    clips = judged_clips()[:3]
    prompts = [caption(clip) for clip in clips]
    videos = _videos([clips[0], clips[1], clips[1]])
    found = verdicts(videos, prompts)
    assert found.keys() == set(ATTRIBUTES)
    assert all(each[:2] == (True, True) for each in found.values())
    assert {name: each[2] for name, each in found.items()} == agreement(videos[2], clips[2])
    assert verdicts(videos, ["a red fox", *prompts[1:]]) == {}


# The track.


@pytest.mark.parametrize("shape", ["circle", "square"])
def test_the_track_of_a_drawn_clip_is_its_path(shape: str) -> None:
    clip = ShapeClip("large", "red", shape, "quickly", "down", "white")
    found = track(draw([clip], torch.Generator().manual_seed(4))[0].permute(1, 2, 3, 0) / 2 + 0.5)
    assert found is not None
    torch.testing.assert_close(found, path(clip, torch.Generator().manual_seed(4)), rtol=0, atol=0.05)


def test_a_clip_strays_from_another_by_the_pixels_between_them() -> None:
    clip = ShapeClip("small", "blue", "circle", "slowly", "left", "black")
    video = draw([clip], torch.Generator().manual_seed(4))[0].permute(1, 2, 3, 0) / 2 + 0.5
    moved = video.roll((3, 4), dims=(1, 2))
    assert stray(moved, video) == pytest.approx(5.0, abs=0.05)
    assert stray(video, video) == 0.0
    assert track(torch.zeros_like(video)) is None
    assert stray(torch.zeros_like(video), video) == stray(video, torch.zeros_like(video)) == math.inf
