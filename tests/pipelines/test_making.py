from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from quant.errors import QuantError
from quant.pipelines.making import frame_rate, make_video, video_of
from quant.pipelines.rows import call_of, prompt_rows
from quant.pipelines.settings import GenerationSettings
from tests import tiny_pipeline

SETTINGS = GenerationSettings(**tiny_pipeline.SETTINGS)


def test_a_modular_pipelines_video_is_what_its_blocks_make_and_not_what_they_are_given() -> None:
    class State:
        video = np.zeros((1, 2, 4, 4, 3))
        videos = np.ones((1, 5, 4, 4, 3))

    class Blocks:
        inputs = ()
        outputs = (SimpleNamespace(name="videos"),)

    assert video_of(State(), SimpleNamespace(blocks=Blocks()), "a").shape == (5, 4, 4, 3)


def test_the_video_is_what_the_call_returns_and_steps_are_seen() -> None:
    pipe = tiny_pipeline.pipeline()
    steps: list[object] = []
    call = call_of(prompt_rows(["snow"])[0], pipe, SETTINGS)
    video = make_video(pipe, call, 3, steps.append)
    assert video.shape == (5, 16, 16, 3) and video.dtype == np.float32 and len(steps) == 2
    assert np.array_equal(video, make_video(pipe, call, 3))
    assert not np.array_equal(video, make_video(pipe, call, 4))


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (SimpleNamespace(), "in which no video was found"),
        (SimpleNamespace(frames=np.zeros((2, 4, 4, 4))), "a video of the shape"),
        (SimpleNamespace(frames=np.full((1, 2, 4, 4, 3), np.nan)), "the video for 'a' holds values that are not"),
    ],
)
def test_what_is_no_video_is_refused(output: object, words: str) -> None:
    with pytest.raises(QuantError, match=words):
        video_of(output, SimpleNamespace(), "a")


def test_a_frame_rate_is_the_calls_or_the_default() -> None:
    class Rated:
        def __call__(self, prompt: str, fps: int = 7) -> None: ...

    class Unrated:
        def __call__(self, prompt: str) -> None: ...

    assert frame_rate(Rated(), {}) == 7 and frame_rate(Rated(), {"fps": 12}) == 12
    assert frame_rate(Rated(), {"fps": 0}) is None and frame_rate(Unrated(), {"fps": 12}) is None
