"""One call of a pipeline of any kind, for the video that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from quant.errors import QuantError
from quant.fields import is_number
from quant.files.videos import Frames
from quant.pipelines.arguments import call_arguments, class_name, is_modular
from quant.pipelines.stepping import own_arguments, watched

#: Where pipelines put their videos, the first of them that there is.
_OUTPUTS = ("frames", "videos", "video", "images")
#: How pipelines name the frames a second that a model is to make a video of, in the order in which they are looked for.
_RATES = ("frame_rate", "fps")


def make_video(
    pipeline: Any,
    call: Mapping[str, Any],
    seed: int,
    on_step: Callable[[object], object] = lambda latents: None,
    on_noise: Callable[[Tensor], object] | None = None,
    *,
    name: str = "",
) -> Frames:
    """Calls a pipeline; it is as before when the call is over.

    Args:
        pipeline: of diffusers.
        call: its keyword arguments, as `quant.pipelines.rows.call_of` makes them.
        seed: of the generator that it draws from, on the CPU: the same latents on every device.
        on_step, on_noise: as `quant.pipelines.stepping.watched` has them.
        name: of the video, for messages.

    Returns:
        The frames [F, H, W, 3] in 0..1.

    Raises:
        QuantError: it returned no video, or one that is not finite.
    """
    with watched(pipeline, on_step, on_noise) as reporting:
        output = pipeline(**call, **own_arguments(pipeline, seed), **reporting)
    return video_of(output, pipeline, name)


def video_of(output: Any, pipeline: Any, name: str) -> Frames:
    """The frames [F, H, W, 3] of what a pipeline returned. Raises QuantError as `make_video`."""
    names: tuple[str, ...] = _OUTPUTS
    if is_modular(pipeline):  # whose state has all inputs, too: a given video is none that was made
        made = {each.name for each in pipeline.blocks.outputs}
        names = tuple(name for name in _OUTPUTS if name in made)
    found = next((getattr(output, name) for name in names if getattr(output, name, None) is not None), None)
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


def frame_rate(pipeline: Any, call: Mapping[str, Any]) -> float | None:
    """The frames a second that a call asks its model for; None where the pipeline takes no such argument.

    Args:
        pipeline: of diffusers.
        call: the keyword arguments; what they do not say is the pipeline's default.
    """
    arguments = call_arguments(pipeline)
    for name in _RATES:
        found = call.get(name, arguments[name].default) if name in arguments else None
        if is_number(found) and found > 0:
            return float(found)
    return None
