"""Videos to compare: fixed seeds, initial latents made once, raw frames."""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

import quant
from quant.errors import QuantError
from quant.eval.frames import Frames
from quant.pipelines.arguments import Arguments, frames_name


@dataclass(frozen=True)
class InitialLatents:
    """The noise each video starts from. `values` is float32, [N, ...] with one entry a seed."""

    seeds: tuple[int, ...]
    values: Tensor

    @property
    def sha256(self) -> str:
        """A hash of the shape and the values: two runs that share it started from the same noise."""
        array = self.values.to(torch.float32).contiguous().numpy().astype("<f4")
        return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def complete_call(arguments: Arguments, pipeline: str, settings: quant.GenerationSettings) -> dict[str, Any]:
    """The settings of all calls, with the call's own defaults for size, frames and steps that are not given, if any.

    `arguments` are those of the call of the class `pipeline`. Raises ModelError for a setting that it does not take.
    """
    call = settings.for_arguments(arguments, pipeline)
    names = [name for name in ("height", "width", frames_name(arguments), "num_inference_steps") if name in arguments]
    defaults = {name: arguments[name].default for name in names if name is not None and name not in call}
    return call | {name: value for name, value in defaults.items() if value is not None}


def complete(kind: type, given: Mapping[str, Any], name: str) -> int:
    """A whole number that a pipeline of the class `kind` is called with: as given, else its own default.

    Raises:
        QuantError: it has none.
    """
    value = given.get(name)
    if value is None:
        value = quant.GenerationSettings.default(kind, name)
    if not isinstance(value, int):
        raise QuantError(f"{kind.__name__} has no default {name}: give it in 'settings'")
    return value


def initial_latents(pipeline: Any, call: Mapping[str, Any], seeds: Sequence[int]) -> InitialLatents:
    """The noise `pipeline` itself would draw with a generator of each seed, whatever the batches will be.

    `call` holds the keyword arguments of the pipeline; a size it does not name is the pipeline's default.
    """
    size = {name: complete(type(pipeline), call, name) for name in ("height", "width", "num_frames")}
    quant.GenerationSettings(**size).for_pipeline(pipeline)  # refuses what the pipeline would round
    values = pipeline.prepare_latents(
        batch_size=len(seeds),
        num_channels_latents=pipeline.transformer.config.in_channels,
        **size,
        dtype=torch.float32,
        device=torch.device("cpu"),
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
    )
    return InitialLatents(tuple(seeds), values)


def generate(
    pipeline: Any,
    prompts: Sequence[str],
    latents: InitialLatents,
    call: Mapping[str, Any],
    *,
    batch: int = 8,
    on_step: Callable[[int, int], None] = lambda done, total: None,
) -> Frames:
    """The videos of `prompts` [N, F, H, W, 3] in 0..1, made `batch` at a time, each from its own initial latents.

    `on_step(done, total)` is called after every denoising step. Raises QuantError where a video holds values
    that are not finite.
    """
    if len(prompts) != len(latents.seeds):
        raise ValueError(f"{len(prompts)} prompts need as many initial latents, not {len(latents.seeds)}")
    starts = range(0, len(prompts), batch)
    total = len(starts) * complete(type(pipeline), call, "num_inference_steps")
    frames: list[Frames] = []
    done = itertools.count(1)

    def step_end(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(next(done), total)
        return {}

    for start in starts:
        output = pipeline(
            prompt=list(prompts[start : start + batch]),
            latents=latents.values[start : start + batch].clone(),
            output_type="np",
            callback_on_step_end=step_end,
            **call,
        )
        frames.append(np.asarray(output.frames, dtype=np.float32))
    _refuse_broken(frames, prompts)
    return np.concatenate(frames)


def _refuse_broken(batches: Sequence[Frames], prompts: Sequence[str]) -> None:
    videos = [video for frames in batches for video in frames]
    for prompt, video in zip(prompts, videos, strict=True):
        if not np.isfinite(video).all():
            raise QuantError(f"the video for {prompt!r} holds values that are not finite")
