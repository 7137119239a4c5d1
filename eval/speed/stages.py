"""One call of a pipeline, its time by stage: text encoding, every denoising step, VAE decoding, and the whole."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

STAGES = TEXT_ENCODER, STEP, VAE, END_TO_END = "text_encoder", "step", "vae", "end_to_end"


class Clock(NamedTuple):
    """How borders are marked, and what lies between two of them.

    Attributes:
        mark: notes that a border is reached; waits for nothing.
        between: seconds from one mark to another.
    """

    mark: Callable[[], Any]
    between: Callable[[Any, Any], float]


class CallTimes(NamedTuple):
    """Seconds of one call.

    Attributes:
        text_encoder: of every `encode_prompt`, added up; None for a pipeline without one.
        steps: of each denoising step with all its guidance. The first begins where text encoding ends, so it holds the
            preparation of timesteps and latents.
        vae: of every `vae.decode`, added up; None for a pipeline that does not call it.
        end_to_end: of the whole call, with what lies between the stages and the frames' way to the host.
    """

    text_encoder: float | None
    steps: tuple[float, ...]
    vae: float | None
    end_to_end: float

    def by_stage(self) -> dict[str, tuple[float, ...]]:
        """The seconds of each stage by its name."""
        return {
            TEXT_ENCODER: () if self.text_encoder is None else (self.text_encoder,),
            STEP: self.steps,
            VAE: () if self.vae is None else (self.vae,),
            END_TO_END: (self.end_to_end,),
        }


def host_clock() -> Clock:
    """The host's clock, for work that is done when its call returns."""
    return Clock(time.perf_counter, lambda begin, end: float(end - begin))


def cuda_clock() -> Clock:
    """Events on the current CUDA stream: they pass when the work before them is done, and the host runs ahead as ever.

    To synchronize at each border instead would make the device wait for the host once a step.
    """

    def mark() -> Any:
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def between(begin: Any, end: Any) -> float:
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3

    return Clock(mark, between)


def run_call(pipeline: Any, prompt: str, latents: Tensor, call: Mapping[str, Any], **more: Any) -> Any:
    """One video of `prompt` from the initial `latents` [1, ...]; the frames come to the host, as a user wants them."""
    return pipeline(prompt=[prompt], latents=latents.clone(), output_type="np", **{**call, **more})


def time_call(pipeline: Any, prompt: str, latents: Tensor, call: Mapping[str, Any], clock: Clock) -> CallTimes:
    """The time of one call by stage.

    Args:
        pipeline: of diffusers; it is as before when the call is over, or has raised.
        prompt: of the video.
        latents: its initial noise, [1, ...].
        call: the pipeline's other keyword arguments.
        clock: by which.
    """
    spans: dict[str, list[tuple[Any, Any]]] = {TEXT_ENCODER: [], VAE: []}
    ends: list[Any] = []

    def on_step(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        ends.append(clock.mark())
        return {}

    with ExitStack() as stack:
        for owner, name, stage in ((pipeline, "encode_prompt", TEXT_ENCODER), (_vae(pipeline), "decode", VAE)):
            if hasattr(owner, name):
                stack.enter_context(_marked(owner, name, clock, spans[stage]))
        begin = clock.mark()
        run_call(pipeline, prompt, latents, call, callback_on_step_end=on_step)
        end = clock.mark()
    encoded = spans[TEXT_ENCODER]
    start = encoded[-1][1] if encoded else begin
    steps = tuple(clock.between(before, after) for before, after in itertools.pairwise([start, *ends]))
    text, vae = (_sum(spans[stage], clock) for stage in (TEXT_ENCODER, VAE))
    return CallTimes(text, steps, vae, clock.between(begin, end))


def summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, 90th percentile and coefficient of variation of some seconds, and all of them.

    The percentile lies between two values where none is at its place (R. J. Hyndman, Y. Fan, "Sample quantiles in
    statistical packages", 1996, definition 7: NumPy's own). The coefficient of variation is the sample's standard
    deviation (N - 1) by the mean.

    Args:
        seconds: of each call; may be empty, where a pipeline has no such stage.

    Returns:
        {"median", "p90", "cv", "n", "seconds"}; None for what so few values do not have.
    """
    values = [float(value) for value in seconds]
    many = len(values) > 1
    mean = statistics.fmean(values) if values else 0.0
    return {
        "median": statistics.median(values) if values else None,
        "p90": _percentile(values, 0.9) if values else None,
        "cv": statistics.stdev(values) / mean if many and mean > 0 else None,
        "n": len(values),
        "seconds": values,
    }


def _vae(pipeline: Any) -> Any:
    return getattr(pipeline, "vae", None)


def _sum(spans: list[tuple[Any, Any]], clock: Clock) -> float | None:
    return sum(clock.between(begin, end) for begin, end in spans) if spans else None


@contextmanager
def _marked(owner: Any, name: str, clock: Clock, spans: list[tuple[Any, Any]]) -> Iterator[None]:
    """Notes every call of the method `name` of this one object as a span, as long as it is entered."""
    method = getattr(owner, name)
    own = vars(owner).get(name)

    def marked(*args: Any, **kwargs: Any) -> Any:
        begin = clock.mark()
        result = method(*args, **kwargs)
        spans.append((begin, clock.mark()))
        return result

    setattr(owner, name, marked)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)


def _percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])
