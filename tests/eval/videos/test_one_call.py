from __future__ import annotations

import numpy as np
import torch

import quant
from quant.eval.videos.generation import complete_call, generate, initial_latents
from quant.eval.videos.one_call import first_noise, run_once
from quant.pipelines.rows import call_of, prompt_rows
from tests import tiny_pipeline

SETTINGS = quant.GenerationSettings(**tiny_pipeline.SETTINGS)


def test_a_text_pipeline_makes_what_it_makes_of_latents_that_are_drawn_for_it() -> None:
    pipe = tiny_pipeline.pipeline().to(torch.float32)
    before = dict(vars(pipe.scheduler))
    call = complete_call(pipe, SETTINGS)
    latents = initial_latents(pipe, call, [3])
    steps: list[None] = []
    made = run_once(pipe, call_of(prompt_rows(["a red fox"])[0], pipe, SETTINGS), 3, lambda: steps.append(None))
    assert made.noise_sha256 == latents.sha256
    assert np.array_equal(made.video, generate(pipe, ["a red fox"], latents, call, batch=1)[0])
    assert len(steps) == len(made.probes) == 2
    assert "step" not in vars(pipe.scheduler) and set(vars(pipe.scheduler)) >= set(before)


def test_noise_is_seen_without_a_video() -> None:
    pipe = tiny_pipeline.pipeline().to(torch.float32)
    call = complete_call(pipe, SETTINGS)
    assert torch.equal(first_noise(pipe, {**call, "prompt": "snow"}, 3), initial_latents(pipe, call, [3]).values)
    assert "step" not in vars(pipe.scheduler)
