"""One call of a pipeline of any kind: its video, the noise that it began with, and its latents after each step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quant.errors import QuantError
from quant.eval.frames import Frames
from quant.pipelines.arguments import class_name
from quant.pipelines.making import make_video
from quant.pipelines.stepping import watched

#: Entries of the latents that are kept of every step: all of them would be larger than the videos.
PROBED = 64


class OneCall(NamedTuple):
    """What one call made.

    Attributes:
        video: [F, H, W, 3] in 0..1.
        noise_sha256: of what the first step began with; candidates that share it began alike.
        probes: a few entries of the latents after each step, the same ones for every model.
    """

    video: Frames
    noise_sha256: str
    probes: list[npt.NDArray[np.float32]]


def run_once(
    pipeline: Any, call: Mapping[str, Any], seed: int, on_step: Callable[[], object], *, name: str = ""
) -> OneCall:
    """Calls a pipeline.

    Args:
        pipeline: of diffusers; it is as before when the call is over.
        call: its keyword arguments, as `quant.pipelines.rows.call_of` makes them.
        seed: of the generator that it draws from, on the CPU.
        on_step: called after each denoising step.
        name: of the video, for messages.

    Raises:
        QuantError: it returned no video, one that is not finite, or no noise was seen.
    """
    seen: list[Tensor] = []
    probes: list[npt.NDArray[np.float32]] = []

    def stepped(latents: object) -> None:
        if isinstance(latents, Tensor):
            probes.append(_probe(latents))
        on_step()

    def begun(noise: Tensor) -> None:
        seen.append(noise.detach().to("cpu", torch.float32, copy=True))

    video = make_video(pipeline, call, seed, stepped, begun, name=name)
    return OneCall(video, _sha256(_only(seen, pipeline)), probes)


class _SeenError(Exception):
    """What stops a call once its noise is seen."""


def noise_shape(pipeline: Any, call: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of what a call with these keyword arguments begins with; no video is made.

    Raises:
        QuantError: it was not seen.
    """
    seen: list[Tensor] = []

    def stop(noise: Tensor) -> None:
        seen.append(noise)
        raise _SeenError

    with suppress(_SeenError), watched(pipeline, lambda _: None, stop) as reporting:
        pipeline(**call, **reporting)
    return tuple(_only(seen, pipeline).shape)


def _only(seen: Sequence[Tensor], pipeline: Any) -> Tensor:
    if not seen:
        raise QuantError(f"{class_name(pipeline)} was not seen to begin with noise: it has no scheduler or denoiser")
    return seen[0]


def _sha256(noise: Tensor) -> str:
    array = noise.contiguous().numpy().astype("<f4")
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def _probe(latents: Tensor) -> npt.NDArray[np.float32]:
    """`PROBED` entries of a tensor, the same ones for every tensor of its size."""
    flat = latents.detach().flatten()
    places = np.random.default_rng(0).integers(0, flat.numel(), PROBED)
    return flat[places.tolist()].float().cpu().numpy()
