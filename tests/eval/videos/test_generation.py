from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanPipeline

from quant.errors import QuantError
from quant.eval.videos.generation import InitialLatents, generate, initial_latents

CALL = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 3}
OnStep = Callable[[Any, int, int, dict[str, Any]], dict[str, Any]]


class Pipe:
    """Draws latents by diffusers' own code; its videos are the mean of the latents they started from."""

    prepare_latents = WanPipeline.prepare_latents

    def __init__(self) -> None:
        config = SimpleNamespace(in_channels=4, patch_size=(1, 2, 2))
        self.transformer = SimpleNamespace(config=config)
        self.vae_scale_factor_spatial = 8
        self.vae_scale_factor_temporal = 4
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self,
        prompt: list[str],
        height: int = 480,
        width: int = 832,
        num_frames: int = 81,
        num_inference_steps: int = 50,
        latents: torch.Tensor | None = None,
        output_type: str = "pil",
        callback_on_step_end: OnStep | None = None,
    ) -> SimpleNamespace:
        assert latents is not None and callback_on_step_end is not None
        self.calls.append({"prompt": prompt, "size": (height, width, num_frames), "output_type": output_type})
        for step in range(num_inference_steps):
            assert callback_on_step_end(self, step, 0, {"latents": latents}) == {}
        means = latents.mean(dim=(1, 2, 3, 4)).numpy()
        frames = np.broadcast_to(means[:, None, None, None, None], (len(prompt), num_frames, 2, 2, 3)).copy()
        if "broken" in prompt:
            frames[prompt.index("broken"), 0, 0, 0, 0] = np.nan
        latents.zero_()  # a scheduler may write into what it is given
        return SimpleNamespace(frames=frames)


def test_latents_are_what_the_pipeline_draws_alone_with_each_seed() -> None:
    pipe = Pipe()
    found = initial_latents(pipe, CALL, [7, 3])
    assert found.seeds == (7, 3)
    assert found.values.shape == (2, 4, 2, 4, 6)
    for seed, values in zip(found.seeds, found.values, strict=True):
        generator = torch.Generator().manual_seed(seed)
        alone = pipe.prepare_latents(1, 4, 32, 48, 5, torch.float32, torch.device("cpu"), generator)
        assert torch.equal(values, alone[0])


def test_a_size_that_is_not_named_is_the_pipelines() -> None:
    assert initial_latents(Pipe(), {"height": 32, "width": None}, [0]).values.shape == (1, 4, 21, 4, 104)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 40}, "height 40 is not a multiple of 16"),
        ({"width": 33}, "width 33 is not a multiple of 16"),
        ({"num_frames": 8}, "8 frames are not a multiple of 4 plus one"),
    ],
)
def test_a_size_that_the_pipeline_would_round_is_an_error(change: dict[str, int], message: str) -> None:
    with pytest.raises(QuantError, match=message):
        initial_latents(Pipe(), {**CALL, **change}, [0])


def test_a_pipeline_without_a_default_size_must_be_told() -> None:
    class Bare:
        def __call__(self, prompt: list[str], height: int | None = None) -> SimpleNamespace:
            return SimpleNamespace()

    with pytest.raises(QuantError, match="Bare has no default height: give it in 'settings'"):
        initial_latents(Bare(), {}, [0])


def test_the_hash_is_of_shape_and_values() -> None:
    values = torch.arange(6.0).reshape(1, 6)
    base = InitialLatents((1,), values)
    assert base.sha256 == InitialLatents((2,), values.clone()).sha256
    assert base.sha256 == InitialLatents((1,), values.reshape(6, 1).T).sha256
    assert base.sha256 != InitialLatents((1,), values.reshape(2, 3)).sha256
    assert base.sha256 != InitialLatents((1,), values + 1e-6).sha256


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
def test_videos_do_not_depend_on_the_batch(batch: int) -> None:
    pipe, prompts = Pipe(), ["a", "b", "c"]
    latents = initial_latents(pipe, CALL, [1, 2, 3])
    before = latents.sha256
    found = generate(pipe, prompts, latents, CALL, batch=batch)
    means = latents.values.mean(dim=(1, 2, 3, 4)).numpy()
    assert found.shape == (3, 5, 2, 2, 3)
    assert found.dtype == np.float32
    assert np.array_equal(found[:, 0, 0, 0, 0], means)
    assert [prompt for call in pipe.calls for prompt in call["prompt"]] == prompts
    assert {call["size"] for call in pipe.calls} == {(32, 48, 5)}
    assert {call["output_type"] for call in pipe.calls} == {"np"}
    assert latents.sha256 == before


def test_every_step_is_told() -> None:
    pipe, told = Pipe(), list[tuple[int, int]]()
    latents = initial_latents(pipe, CALL, [1, 2, 3])
    generate(pipe, "abc", latents, CALL, batch=2, on_step=lambda done, total: told.append((done, total)))
    assert told == [(done, 6) for done in range(1, 7)]


def test_a_broken_video_is_named_by_its_prompt() -> None:
    pipe = Pipe()
    with pytest.raises(QuantError, match="the video for 'broken' holds values that are not finite"):
        generate(pipe, ["a", "b", "broken"], initial_latents(pipe, CALL, [1, 2, 3]), CALL, batch=2)


def test_there_are_as_many_latents_as_prompts() -> None:
    pipe = Pipe()
    with pytest.raises(ValueError, match="2 prompts need as many initial latents, not 1"):
        generate(pipe, ["a", "b"], initial_latents(pipe, CALL, [1]), CALL)
