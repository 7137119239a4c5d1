"""One call of a pipeline, its time by stage: what is encoded, every denoising step, VAE decoding, and the whole."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import nn

from quant.pipelines.stepping import watched

STAGES = TEXT_ENCODER, INPUT_ENCODER, STEP, VAE, END_TO_END = (
    "text_encoder",
    "input_encoder",
    "step",
    "vae",
    "end_to_end",
)


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
        text_encoder: of every `encode_prompt`, or of the text encoders themselves in a pipeline without one, added up;
            None for a call in which there is none.
        input_encoder: of every `vae.encode` and of image encoders, the same way.
        steps: of each denoising step with all its guidance. It begins where the step before it ends, or what was
            encoded or decoded since: the first holds the preparation of timesteps and latents. None are seen of a
            pipeline that neither reports its steps nor takes them by its scheduler.
        vae: of every `vae.decode`, added up; None for a pipeline that does not call it.
        end_to_end: of the whole call, with what lies between the stages and the frames' way to the host.
    """

    text_encoder: float | None
    input_encoder: float | None
    steps: tuple[float, ...]
    vae: float | None
    end_to_end: float

    def by_stage(self) -> dict[str, tuple[float, ...]]:
        """The seconds of each stage by its name."""
        return {
            TEXT_ENCODER: () if self.text_encoder is None else (self.text_encoder,),
            INPUT_ENCODER: () if self.input_encoder is None else (self.input_encoder,),
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


def time_call(pipeline: Any, call: Mapping[str, Any], clock: Clock) -> CallTimes:
    """The time of one call by stage; its frames come to the host, as a user wants them.

    Args:
        pipeline: of diffusers; it is as before when the call is over, or has raised.
        call: its keyword arguments, which it may use up.
        clock: by which.
    """
    spans: dict[str, list[tuple[Any, Any]]] = {TEXT_ENCODER: [], INPUT_ENCODER: [], VAE: []}
    steps: list[tuple[Any, Any]] = []
    last: Any = None  # when what came before was done

    def note(stage: str, begin: Any, end: Any) -> None:
        nonlocal last
        spans[stage].append((begin, end))
        last = end

    def on_step(_latents: object) -> None:
        nonlocal last
        now = clock.mark()
        steps.append((last, now))
        last = now

    with ExitStack() as stack:
        for owner, name, stage in _parts(pipeline):
            stack.enter_context(_marked(owner, name, clock, partial(note, stage)))
        reporting = stack.enter_context(watched(pipeline, on_step))
        last = begin = clock.mark()
        pipeline(**call, **reporting)
        end = clock.mark()
    text, inputs, vae = (_sum(spans[stage], clock) for stage in (TEXT_ENCODER, INPUT_ENCODER, VAE))
    each = tuple(clock.between(*span) for span in steps)
    return CallTimes(text, inputs, each, vae, clock.between(begin, end))


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


def _parts(pipeline: Any) -> Iterator[tuple[Any, str, str]]:
    """Objects of a pipeline, the method of each that is timed, and its stage."""
    texts = hasattr(pipeline, "encode_prompt")
    if texts:
        yield pipeline, "encode_prompt", TEXT_ENCODER
    for name, part in getattr(pipeline, "components", {}).items():
        if not isinstance(part, nn.Module):
            continue
        if name.startswith("text_encoder") and not texts:
            yield part, "forward", TEXT_ENCODER
        elif name.startswith("image_encoder"):
            yield part, "forward", INPUT_ENCODER
    vae = getattr(pipeline, "vae", None)
    for name, stage in (("encode", INPUT_ENCODER), ("decode", VAE)):
        if hasattr(vae, name):
            yield vae, name, stage


def _sum(spans: list[tuple[Any, Any]], clock: Clock) -> float | None:
    return sum(clock.between(begin, end) for begin, end in spans) if spans else None


@contextmanager
def _marked(owner: Any, name: str, clock: Clock, note: Callable[[Any, Any], None]) -> Iterator[None]:
    """Notes begin and end of every call of the method `name` of this one object, as long as it is entered."""
    method = getattr(owner, name)
    own = vars(owner).get(name)

    def marked(*args: Any, **kwargs: Any) -> Any:
        begin = clock.mark()
        result = method(*args, **kwargs)
        note(begin, clock.mark())
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
