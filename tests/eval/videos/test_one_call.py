from __future__ import annotations

import numpy as np
import torch

import quant
from quant.eval.videos.generation import generate, initial_latents
from quant.eval.videos.one_call import noise_shape, run_once
from quant.pipelines.rows import call_of, prompt_rows
from tests import tiny_pipeline

SETTINGS = quant.GenerationSettings(**tiny_pipeline.SETTINGS)


def test_a_text_pipeline_makes_what_it_makes_of_latents_that_are_drawn_for_it() -> None:
    pipe = tiny_pipeline.pipeline().to(torch.float32)
    kind, before = type(pipe.scheduler), set(vars(pipe.scheduler))
    call = SETTINGS.for_pipeline(pipe)
    latents = initial_latents(pipe, call, [3])
    steps: list[None] = []
    made = run_once(pipe, call_of(prompt_rows(["a red fox"])[0], pipe, SETTINGS), 3, lambda: steps.append(None))
    assert made.noise_sha256 == latents.sha256
    assert np.array_equal(made.video, generate(pipe, ["a red fox"], latents, call, batch=1)[0])
    assert len(steps) == len(made.probes) == 2
    assert type(pipe.scheduler) is kind and "step" not in vars(pipe.scheduler) and set(vars(pipe.scheduler)) >= before


def test_noise_is_seen_without_a_video() -> None:
    pipe = tiny_pipeline.pipeline().to(torch.float32)
    pipe.vae.decode = None
    kind = type(pipe.scheduler)
    assert noise_shape(pipe, {**SETTINGS.for_pipeline(pipe), "prompt": "snow"}) == (1, 4, 2, 4, 4)
    assert type(pipe.scheduler) is kind
