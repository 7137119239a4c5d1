"""Steps of schedulers that pipelines copy, and of pipelines that report nothing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from quant.pipelines.stepping import own_arguments, watched


class Copying:
    """Steps a copy of its scheduler, too, as pipelines with sound do, and reports nothing."""

    def __init__(self) -> None:
        self.scheduler = FlowMatchEulerDiscreteScheduler()

    def __call__(self, generator: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        self.scheduler.set_timesteps(3)
        sound = copy.deepcopy(self.scheduler)
        video, heard = torch.randn(2, generator=generator), torch.ones(2)
        for timestep in self.scheduler.timesteps:
            video = self.scheduler.step(video, timestep, video, return_dict=False)[0]
            heard = sound.step(heard, timestep, sample=heard).prev_sample
        return video, heard


def test_a_copy_of_a_scheduler_steps_itself() -> None:
    alone, pipeline = Copying(), Copying()
    steps: list[object] = []
    noise: list[torch.Tensor] = []
    with watched(pipeline, steps.append, noise.append) as reporting:
        found = pipeline(**own_arguments(pipeline, 3), **reporting)
    expected = alone(generator=torch.Generator().manual_seed(3))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert reporting == {} and len(steps) == 6
    assert steps[-2] is found[0] and steps[-1] is found[1]
    assert len(noise) == 1 and torch.equal(noise[0], torch.randn(2, generator=torch.Generator().manual_seed(3)))
    assert type(pipeline.scheduler) is FlowMatchEulerDiscreteScheduler and "step" not in vars(pipeline.scheduler)


def test_a_scheduler_is_given_back_when_a_call_fails() -> None:
    pipeline = Copying()
    with pytest.raises(RuntimeError, match="stop"), watched(pipeline, lambda _: None):
        raise RuntimeError("stop")
    assert type(pipeline.scheduler) is FlowMatchEulerDiscreteScheduler


def test_without_a_scheduler_the_denoisers_input_is_the_noise() -> None:
    denoiser = torch.nn.Identity()
    noise: list[torch.Tensor] = []

    class Bare:
        transformer = denoiser

        def __call__(self) -> None:
            for value in (1.0, 2.0):
                self.transformer(torch.full((1, 1, 1, 1), value))

    bare = Bare()
    with watched(bare, lambda _: None, noise.append) as reporting:
        bare(**reporting)
    assert [each.item() for each in noise] == [1.0] and not denoiser._forward_pre_hooks
