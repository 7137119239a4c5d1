"""Makes the videos that are missing, one at a time, each from its own noise.

One video a call: what a video looks like then depends neither on how many processes there are, nor on which videos a
killed run had made. A video counts once its files are whole and its record is in the journal, in this order.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import quant
from quant.errors import QuantError
from quant.eval.generation import generate, initial_latents
from quant.eval.runs.files import file_sha256, whole_file
from quant.eval.runs.folder import GENERATED, RunFolder
from quant.eval.runs.inputs import Sample
from quant.eval.runs.journal import Record
from quant.eval.runs.models import Model
from quant.eval.runs.progress import Progress
from quant.eval.runs.video_files import read_words, to_bytes, to_words, write_bytes, write_preview, write_words

#: Entries of the latents that are kept of every step: all of them would be larger than the videos.
PROBED = 64


def find_made(run: RunFolder, model: Model, samples: Sequence[Sample]) -> dict[str, Record]:
    """By id, the records of those `samples` whose frames are on disk as they were recorded, byte for byte."""
    records = run.records(GENERATED)
    found = {}
    for sample in samples:
        known = records.get((model.fingerprint, sample.id), [])
        sha256 = file_sha256(run.frames(model.fingerprint, sample.id)) if known else None
        fitting = [record for record in known if record["frames_sha256"] == sha256]
        if fitting:
            found[sample.id] = fitting[-1]
    return found


def make_videos(
    run: RunFolder,
    model: Model,
    samples: Sequence[Sample],
    load: Callable[[], Any],
    settings: quant.GenerationSettings,
    *,
    fps: float,
    progress: Progress,
) -> None:
    """Makes `samples` with `model` and records each. The pipeline is loaded only where there is any.

    Raises:
        QuantError: settings that the pipeline would round, or a video that is not finite.
    """
    if not samples:
        return
    pipeline = load()
    call = complete_call(pipeline, settings)
    total = len(samples) * call["num_inference_steps"]
    done = 0

    def tick(step: int, steps: int) -> None:
        nonlocal done
        done += 1
        progress(model.name, min(done, total), total)

    for sample in samples:
        _make_video(run, model, sample, pipeline, call, fps, tick)


def write_viewable(run: RunFolder, model: Model, samples: Sequence[Sample], *, fps: float) -> None:
    """Writes the 8-bit files that are missing, from the 16-bit ones: those of a candidate that got a new name."""
    for sample in samples:
        if not (run.video(model.name, sample.id).is_file() and run.preview(model.name, sample.id).is_file()):
            _write_viewable(run, model, sample, read_words(run.frames(model.fingerprint, sample.id)), fps)


def complete_call(pipeline: Any, settings: quant.GenerationSettings) -> dict[str, Any]:
    """The pipeline's keyword arguments, with its own defaults for size, frames and steps that are not given."""
    call = settings.for_pipeline(pipeline)
    parameters = inspect.signature(type(pipeline).__call__).parameters
    for name in ("height", "width", "num_frames", "num_inference_steps"):
        default = parameters[name].default if name in parameters else None
        if name not in call and not isinstance(default, int):
            raise QuantError(f"{type(pipeline).__name__} has no default {name}: give it in 'settings'")
        call.setdefault(name, default)
    return call


def _make_video(
    run: RunFolder,
    model: Model,
    sample: Sample,
    pipeline: Any,
    call: Mapping[str, Any],
    fps: float,
    tick: Callable[[int, int], None],
) -> None:
    latents = initial_latents(pipeline, call, [sample.seed])
    watched = _Watched(pipeline)
    begin = time.perf_counter()
    made = generate(watched, [sample.prompt], latents, call, batch=1, on_step=tick)
    seconds = time.perf_counter() - begin
    words = to_words(made.frames[0])
    frames = run.frames(model.fingerprint, sample.id)
    write_words(frames, words, fps=fps)
    _write_viewable(run, model, sample, words, fps)
    if watched.probes:
        with whole_file(run.steps(model.fingerprint, sample.id)) as path, path.open("wb") as file:
            np.save(file, np.stack(watched.probes))
    run.append(
        GENERATED,
        {
            "candidate": model.name,
            "model": model.fingerprint,
            "sample": sample.id,
            "prompt": sample.prompt,
            "seed": sample.seed,
            "latents_sha256": latents.sha256,
            "frames": str(frames.relative_to(run.path)),
            "frames_sha256": file_sha256(frames),
            "shape": list(words.shape[:3]),
            "seconds": seconds,
        },
    )


def _write_viewable(run: RunFolder, model: Model, sample: Sample, words: npt.NDArray[np.uint16], fps: float) -> None:
    video = to_bytes(words)
    write_bytes(run.video(model.name, sample.id), video, fps=fps)
    write_preview(run.preview(model.name, sample.id), video, fps=fps)


class _Watched:
    """A pipeline that notes, after every step, the same few entries of the latents."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline
        self.probes: list[npt.NDArray[np.float32]] = []

    def __call__(self, *, callback_on_step_end: Callable[..., dict[str, Any]], **call: Any) -> Any:
        def watch(pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if "latents" in tensors:
                self.probes.append(_probe(tensors["latents"]))
            return callback_on_step_end(pipeline, step, timestep, tensors)

        return self._pipeline(callback_on_step_end=watch, **call)


def _probe(latents: Any) -> npt.NDArray[np.float32]:
    """`PROBED` entries of a tensor, the same ones for every tensor of its size."""
    flat = latents.detach().flatten()
    places = np.random.default_rng(0).integers(0, flat.numel(), PROBED)
    return flat[places.tolist()].float().cpu().numpy()  # type: ignore[no-any-return]
