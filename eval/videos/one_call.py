"""One call of a pipeline of any kind: its video, the noise that it began with, and its latents after each step.

The noise is what the scheduler's first step is given: whatever a pipeline draws, encodes or mixes before, with the
generator that it was called with, is in it, and no family's way of preparing it has to be known.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quant.errors import QuantError
from quant.eval.frames import Frames
from quant.files.model_paths import DENOISERS
from quant.pipelines.arguments import call_arguments, class_name

#: Entries of the latents that are kept of every step: all of them would be larger than the videos.
PROBED = 64
#: Where pipelines put their videos, the first of them that there is.
_OUTPUTS = ("frames", "video", "videos", "images")


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
    arguments = call_arguments(pipeline)
    seen: list[Tensor] = []
    probes: list[npt.NDArray[np.float32]] = []

    def stepped(latents: object) -> None:
        if isinstance(latents, Tensor):
            probes.append(_probe(latents))
        on_step()

    def callback(_pipe: Any, _step: int, _timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        stepped(tensors.get("latents"))
        return {}

    ours: dict[str, Any] = {"generator": torch.Generator("cpu").manual_seed(seed), "output_type": "np"}
    reports = "callback_on_step_end" in arguments
    if reports:
        ours["callback_on_step_end"] = callback
    with _watched(pipeline, seen, None if reports else stepped):
        output = pipeline(**call, **{name: value for name, value in ours.items() if name in arguments})
    if not seen:
        raise QuantError(f"{class_name(pipeline)} was not seen to begin with noise: it has no scheduler or denoiser")
    return OneCall(_video(output, pipeline, name), _sha256(seen[0]), probes)


class _SeenError(Exception):
    """What stops a call once its noise is seen."""


def first_noise(pipeline: Any, call: Mapping[str, Any], seed: int) -> Tensor:
    """What a call's first step begins with, float32 [1, ...] on the CPU, as `latents` takes it; no video is made.

    Args:
        pipeline, call, seed: as in `run_once`.

    Raises:
        QuantError: it was not seen.
    """
    seen: list[Tensor] = []

    def stop(_latents: object) -> None:
        raise _SeenError

    arguments = call_arguments(pipeline)
    ours = {"generator": torch.Generator("cpu").manual_seed(seed)}
    with suppress(_SeenError), _watched(pipeline, seen, stop):
        pipeline(**call, **{name: value for name, value in ours.items() if name in arguments})
    if not seen:
        raise QuantError(f"{class_name(pipeline)} was not seen to begin with noise: it has no scheduler or denoiser")
    # A pipeline scales what it is given as it scales what it draws.
    return seen[0] / float(getattr(pipeline.scheduler, "init_noise_sigma", 1.0))


@contextmanager
def _watched(pipeline: Any, seen: list[Tensor], stepped: Callable[[object], None] | None) -> Iterator[None]:
    """Notes what the first step begins with: the scheduler's sample, or of one that has none, the denoiser's input."""
    scheduler = getattr(pipeline, "scheduler", None)
    with ExitStack() as stack:
        if hasattr(scheduler, "step"):
            stack.enter_context(_stepping(scheduler, seen, stepped))
        else:
            for name in DENOISERS:
                denoiser = getattr(pipeline, name, None)
                if isinstance(denoiser, torch.nn.Module):
                    hook = functools.partial(_note_input, seen)
                    stack.callback(denoiser.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


@contextmanager
def _stepping(scheduler: Any, seen: list[Tensor], stepped: Callable[[object], None] | None) -> Iterator[None]:
    step, own = scheduler.step, vars(scheduler).get("step")

    @functools.wraps(step)  # pipelines ask its signature
    def watched(*args: Any, **kwargs: Any) -> Any:
        sample = kwargs.get("sample", args[2] if len(args) > 2 else None)
        if not seen and isinstance(sample, Tensor):
            seen.append(sample.detach().to("cpu", torch.float32, copy=True))
        result = step(*args, **kwargs)
        if stepped is not None:
            stepped(result[0] if isinstance(result, tuple) else getattr(result, "prev_sample", None))
        return result

    scheduler.step = watched
    try:
        yield
    finally:
        if own is None:
            del scheduler.step
        else:
            scheduler.step = own


def _note_input(seen: list[Tensor], module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    first = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor) and each.ndim > 3), None)
    if not seen and first is not None:
        seen.append(first.detach().to("cpu", torch.float32, copy=True))


def _video(output: Any, pipeline: Any, name: str) -> Frames:
    """The frames [F, H, W, 3] of what a pipeline returned."""
    found = next((getattr(output, name) for name in _OUTPUTS if getattr(output, name, None) is not None), None)
    if found is None:
        raise QuantError(f"{class_name(pipeline)} returned {type(output).__name__}, in which no video was found")
    video = np.asarray(found, dtype=np.float32)
    if video.ndim == 5:
        video = video[0]
    if video.ndim != 4 or video.shape[3] != 3:
        raise QuantError(f"{class_name(pipeline)} returned a video of the shape {video.shape}, not [F, H, W, 3]")
    if not np.isfinite(video).all():
        raise QuantError(f"the video for {name!r} holds values that are not finite")
    return video


def _sha256(noise: Tensor) -> str:
    array = noise.contiguous().numpy().astype("<f4")
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def _probe(latents: Tensor) -> npt.NDArray[np.float32]:
    """`PROBED` entries of a tensor, the same ones for every tensor of its size."""
    flat = latents.detach().flatten()
    places = np.random.default_rng(0).integers(0, flat.numel(), PROBED)
    return flat[places.tolist()].float().cpu().numpy()
