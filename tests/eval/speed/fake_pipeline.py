"""A pipeline whose stages take as long as a test says, by a clock that only they move."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from quant.eval.speed.stages import Clock


class Time:
    """Seconds, moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda begin, end: float(end - begin))


class Vae:
    def __init__(self, time: Time) -> None:
        self.time = time

    def encode(self, video: Any) -> Any:
        self.time.now += 5
        return video

    def decode(self, latents: Any) -> Any:
        self.time.now += 7
        return latents


class FakePipeline:
    """1 s before text encoding, 2 s for it, 3 s to prepare, 4 s a step, 7 s of VAE, 10 s after: all times `slower`."""

    _execution_device = torch.device("cpu")

    def __init__(self, time: Time, slower: float = 1.0) -> None:
        self.time, self.slower = time, slower
        self.vae = Vae(time)
        self.calls: list[tuple[str, torch.Tensor]] = []

    def encode_prompt(self, prompt: list[str]) -> str:
        self.time.now += 2
        return prompt[0]

    def __call__(
        self,
        prompt: list[str],
        latents: torch.Tensor,
        output_type: str,
        num_inference_steps: int = 3,
        callback_on_step_end: Any = None,
    ) -> SimpleNamespace:
        self.calls.append((prompt[0], latents.clone()))
        self.time.now += 1
        self.encode_prompt(prompt)
        self.time.now += 3
        for step in range(num_inference_steps):
            self.time.now += 4 * self.slower
            if callback_on_step_end is not None:
                callback_on_step_end(self, step, 0, {})
        latents.zero_()  # a scheduler may write into what it is given
        frames = self.vae.decode(latents)
        self.time.now += 10
        return SimpleNamespace(frames=frames)
