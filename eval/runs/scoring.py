"""Scores the videos of a model against the original's, from the 16-bit frames on disk.

A video's features for set metrics are on disk before the record that it was scored: one whose record is there has all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from quant.eval.frames import Frames
from quant.eval.inputs.config import ORIGINAL
from quant.eval.inputs.models import FailedModelError, Model
from quant.eval.inputs.samples import Sample
from quant.eval.metrics import table
from quant.eval.metrics.base import Metric, Score, Video
from quant.eval.metrics.psnr import paired_psnr
from quant.eval.progress import Progress
from quant.eval.runs.networks import Networks
from quant.eval.storage.files import file_sha256, without_infinity, write_array
from quant.eval.storage.folder import SCORED, RunFolder
from quant.eval.storage.journal import Record
from quant.eval.videos.generating import Made, stored_words
from quant.files.video_files import to_frames
from quant.text import shown


def score_videos(
    run: RunFolder,
    model: Model,
    samples: Sequence[Sample],
    networks: Networks,
    made: Made,
    reference: Made,
    *,
    progress: Progress,
) -> dict[str, Record]:
    """The scores of `samples` by id; those that are not scored with these networks yet are, and recorded.

    Args:
        made, reference: the videos of the model and of the original.

    Raises:
        FailedModelError: the original and the candidate did not start from the same noise, or their shapes differ.
        QuantError: a video is not the one that was made.
    """
    scored = _find_scores(run, model, samples, networks, made, reference)
    waiting = [sample for sample in samples if sample.id not in scored]
    for count, sample in enumerate(waiting, start=1):
        record = _score(run, model, sample, networks, made[sample.id], reference[sample.id])
        run.append(SCORED, record)
        scored[sample.id] = record
        progress(f"{model.name}, scores", count, len(waiting))
    return scored


def _find_scores(
    run: RunFolder, model: Model, samples: Sequence[Sample], networks: Networks, made: Made, reference: Made
) -> dict[str, Record]:
    """The scores, by id, of frames that are there now with these networks, and whose features are there unchanged.

    A candidate with the original's very weights has the original's fingerprint, but other scores: its name tells.
    """
    records = run.records(SCORED)
    found = {}
    for sample in samples:
        fitting = [
            record
            for record in records.get((model.fingerprint, sample.id), [])
            if record["scoring"] == networks.key
            and (record["candidate"] == ORIGINAL) == (model.name == ORIGINAL)
            and record["frames_sha256"] == made[sample.id]["frames_sha256"]
            and record["original_sha256"] == reference[sample.id]["frames_sha256"]
            and set(networks.extractors) <= set(record["features"])
            and all(
                file_sha256(run.features(name, model.fingerprint, sample.id)) == record["features"][name]
                for name in networks.extractors
            )
        ]
        if fitting:
            found[sample.id] = fitting[-1]
    return found


def _score(run: RunFolder, model: Model, sample: Sample, networks: Networks, made: Record, reference: Record) -> Record:
    if made["latents_sha256"] != reference["latents_sha256"]:
        raise FailedModelError(model.name, f"{shown(sample.prompt)} did not start from the original's noise")
    if made["shape"] != reference["shape"]:
        raise FailedModelError(model.name, f"{shown(sample.prompt)} is of another size than the original's video")
    video = _frames(run, made)
    features = {
        name: write_array(
            run.features(name, model.fingerprint, sample.id), np.asarray(extractor(video), dtype=np.float32)
        )
        for name, extractor in networks.extractors.items()
    }
    first = None if model.name == ORIGINAL else _frames(run, reference)
    return {
        "candidate": model.name,
        "model": model.fingerprint,
        "sample": sample.id,
        "scoring": networks.key,
        "frames_sha256": made["frames_sha256"],
        "original_sha256": reference["frames_sha256"],
        "features": features,
        "scores": _scores(Video(video, sample.prompt, first), networks),
        "truncated": any(
            metric.truncates(sample.prompt, network) for metric, network in _usable(table.metrics(), networks)
        ),
        "per_frame_psnr": [] if first is None else without_infinity(paired_psnr(first[:, None], video[:, None])),
    }


def _frames(run: RunFolder, record: Record) -> Frames:
    """The stored frames [F, H, W, 3] of a record, in 0..1."""
    return to_frames(stored_words(run, record))


def _scores(video: Video, networks: Networks) -> dict[str, Score]:
    """The score of a video by metric; those that compare with the original only where there is one to compare with."""
    wanted = (*table.metrics("own"), *(() if video.original is None else table.metrics("paired")))
    return {
        metric.key: without_infinity(metric.score(video, network))
        for metric, network in _usable(wanted, networks)
        if metric.applies(video)
    }


def _usable(metrics: Sequence[Metric], networks: Networks) -> list[tuple[Metric, Any]]:
    """Metrics with their networks, without those whose network is not here."""
    return [
        (metric, None if metric.network is None else networks.loaded[metric.network])
        for metric in metrics
        if metric.network is None or metric.network in networks.loaded
    ]
