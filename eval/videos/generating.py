"""Makes the videos that are missing, one at a time, each from its own noise.

One video a call: what a video looks like then depends neither on how many processes there are, nor on which videos a
killed run had made. A video counts once its files are whole and its record is in the journal, in this order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

import quant
from quant.errors import QuantError
from quant.eval.inputs.models import FailedModelError, Model
from quant.eval.inputs.samples import Sample
from quant.eval.progress import Progress
from quant.eval.storage.files import check_written, file_sha256, write_array
from quant.eval.storage.folder import GENERATED, VIEWABLE, RunFolder
from quant.eval.storage.journal import Record
from quant.eval.storage.kept_inputs import kept_row
from quant.eval.videos.one_call import run_once
from quant.files.video_files import Words, read_words, to_bytes, to_words, write_bytes, write_preview, write_words
from quant.pipelines.rows import Row, call_of, prompt_rows
from quant.text import kind_and_line, shown

#: The records of videos that lie there as they were recorded, by the sample's id.
Made = dict[str, Record]


def find_made(run: RunFolder, model: Model, samples: Sequence[Sample]) -> Made:
    """The records of those `samples` whose frames and steps are on disk as they were recorded, byte for byte."""
    records = run.records(GENERATED)
    found = {}
    for sample in samples:
        known = records.get((model.fingerprint, sample.id))
        if known is None:
            continue
        files = (run.frames(model.fingerprint, sample.id), run.steps(model.fingerprint, sample.id))
        there = tuple(file_sha256(file) for file in files)
        fitting = [record for record in known if (record["frames_sha256"], record["steps_sha256"]) == there]
        if fitting:
            found[sample.id] = fitting[-1]
    return found


def make_videos(
    run: RunFolder,
    model: Model,
    samples: Sequence[Sample],
    made: Made,
    load: Callable[[], Any],
    settings: quant.GenerationSettings,
    *,
    fps: float,
    progress: Progress,
) -> None:
    """Makes those of `samples` that are not in `made`, and puts the record of each there once it is on disk.

    The pipeline is loaded only where a video is missing.

    Raises:
        FailedModelError: the pipeline cannot be loaded or called, its files changed meanwhile, settings that it would
            round, or a video that is not finite.
        QuantError: the disk refuses.
    """
    missing = [sample for sample in samples if sample.id not in made]
    if not missing:
        return
    with failing(model, "cannot be loaded"):
        pipeline = load()
        settings.for_pipeline(pipeline)
        steps = settings.get("num_inference_steps") or settings.default(pipeline, "num_inference_steps")
    total = len(missing) * (steps if isinstance(steps, int) else 1)
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        progress(model.name, min(done, total), total)

    for sample in missing:
        made[sample.id] = _make_video(run, model, sample, pipeline, settings, fps, tick)


@contextmanager
def failing(model: Model, what: str) -> Iterator[None]:
    """Turns whatever a model's pipeline raises, out of memory too, into one line with the model's name."""
    try:
        yield
    except FailedModelError:
        raise
    except QuantError as error:
        raise FailedModelError(model.name, str(error)) from None
    except Exception as error:  # of many kinds, by pipeline
        raise FailedModelError(model.name, f"{what}: {kind_and_line(error)}") from None


def write_viewable(run: RunFolder, model: Model, samples: Sequence[Sample], made: Made, *, fps: float) -> None:
    """Writes the 8-bit files that are missing or changed, from the 16-bit ones: of a candidate with a new name, too."""
    records = run.records(VIEWABLE)
    for sample in samples:
        there = [file_sha256(path) for path in (run.video(model.name, sample.id), run.preview(model.name, sample.id))]
        frames = made[sample.id]["frames_sha256"]
        known = records.get((model.fingerprint, sample.id), [])
        if not any(
            (record["candidate"], record["frames_sha256"], record["video_sha256"], record["preview_sha256"])
            == (model.name, frames, *there)
            for record in known
        ):
            _write_viewable(run, model, sample, stored_words(run, made[sample.id]), frames, fps)


def stored_words(run: RunFolder, record: Record) -> Words:
    """The 16-bit frames [F, H, W, 3] of a record. Raises QuantError where the file is not the one that was recorded."""
    path = run.path / record["frames"]
    check_written(path, record["frames_sha256"])
    return read_words(path)


def row_of(run: RunFolder, sample: Sample) -> Row:
    """What a pipeline is called with for a sample, its files in the run's folder."""
    return kept_row(run, sample.inputs, 1) if sample.inputs else prompt_rows([sample.prompt])[0]


def _make_video(
    run: RunFolder,
    model: Model,
    sample: Sample,
    pipeline: Any,
    settings: quant.GenerationSettings,
    fps: float,
    tick: Callable[[], None],
) -> Record:
    with failing(model, f"made no video for {shown(sample.prompt)}"):
        call = call_of(row_of(run, sample), pipeline, settings)
        begin = time.perf_counter()
        made = run_once(pipeline, call, sample.seed, tick, name=sample.prompt)
        seconds = time.perf_counter() - begin
        words = to_words(made.video)
    model.check_unchanged()  # weights are read from their files as they are needed
    frames, steps = run.frames(model.fingerprint, sample.id), run.steps(model.fingerprint, sample.id)
    write_words(frames, words, fps=fps)
    frames_sha256 = file_sha256(frames)
    _write_viewable(run, model, sample, words, frames_sha256, fps)
    steps.unlink(missing_ok=True)
    steps_sha256 = write_array(steps, np.stack(made.probes)) if made.probes else None
    record = {
        "candidate": model.name,
        "model": model.fingerprint,
        "sample": sample.id,
        "prompt": sample.prompt,
        "seed": sample.seed,
        "latents_sha256": made.noise_sha256,
        "frames": str(frames.relative_to(run.path)),
        "frames_sha256": frames_sha256,
        "steps_sha256": steps_sha256,
        "shape": list(words.shape[:3]),
        "seconds": seconds,
    }
    run.append(GENERATED, record)
    return record


def _write_viewable(
    run: RunFolder, model: Model, sample: Sample, words: Words, frames_sha256: str | None, fps: float
) -> None:
    bytes_, video, preview = to_bytes(words), run.video(model.name, sample.id), run.preview(model.name, sample.id)
    write_bytes(video, bytes_, fps=fps)
    write_preview(preview, bytes_, fps=fps)
    run.append(
        VIEWABLE,
        {
            "candidate": model.name,
            "model": model.fingerprint,
            "sample": sample.id,
            "frames_sha256": frames_sha256,
            "video_sha256": file_sha256(video),
            "preview_sha256": file_sha256(preview),
        },
    )
