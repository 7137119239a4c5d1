"""Puts the results of a run together from its records and features.

A run that was killed and resumed has the results of one that was not, byte for byte but for when they were made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.eval.inputs.config import ORIGINAL
from quant.eval.inputs.models import Model, describe
from quant.eval.inputs.samples import Sample, described
from quant.eval.locations import short_place
from quant.eval.metrics import table
from quant.eval.metrics.base import Display
from quant.eval.metrics.intervals import LEVELS, mean_estimate, verdict
from quant.eval.results.schema import FORMAT_VERSION, KIND
from quant.eval.runs.conditions import key_of
from quant.eval.runs.networks import Networks
from quant.eval.runs.requests import Request
from quant.eval.storage.files import read_array, without_infinity
from quant.eval.storage.folder import RunFolder
from quant.eval.storage.journal import Record
from quant.eval.videos.generating import Made


@dataclass(frozen=True)
class Found:
    """All that a run has found.

    Attributes:
        made: records of videos by model's fingerprint and sample's id.
        scored: records of scores by model's name and sample's id.
        networks: that scored them.
        references: features of real clips [N, D] by extractor's name; empty where there are none.
        sensitivities: measured ones by candidate's name.
        speed: the times; None where nothing was timed.
        failed: by name, why a candidate has no scores.
    """

    made: Mapping[str, Made]
    scored: Mapping[str, Mapping[str, Record]]
    networks: Networks
    references: Mapping[str, npt.NDArray[np.float32]]
    sensitivities: Mapping[str, Any]
    speed: Mapping[str, Any] | None
    failed: Mapping[str, str]


def assemble(run: RunFolder, request: Request, models: Sequence[Model], found: Found) -> dict[str, Any]:
    """The results of a request. Raises QuantError where a file of features or steps is not the one that was written."""
    samples = request.samples
    made, scored = found.made[models[0].fingerprint], found.scored[ORIGINAL]
    return {
        "format_version": FORMAT_VERSION,
        "kind": KIND,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "key": key_of(request.conditions),
        "conditions": request.conditions,
        "provenance": {**request.provenance, "fps": request.config.frame_rate},
        "networks": [dict(each) for each in found.networks.described],
        "missing": [dict(each) for each in found.networks.missing],
        "samples": [{**described(sample), "latents_sha256": made[sample.id]["latents_sha256"]} for sample in samples],
        "truncated_prompts": [sample.id for sample in samples if scored[sample.id]["truncated"]],
        "models": _models(run, models, samples, found),
        "speed": without_infinity(found.speed),
    }


def _models(run: RunFolder, models: Sequence[Model], samples: Sequence[Sample], found: Found) -> list[dict[str, Any]]:
    """The original first."""
    original, extractors = models[0], found.networks.extractors
    own = values_of(found.scored[ORIGINAL], samples)
    entries = []
    for model in models:
        entry: dict[str, Any] = {
            "name": model.name,
            "source": short_place(model.source),
            "fingerprint": model.fingerprint,
        }
        entry |= describe(model)
        entry["failed"] = found.failed.get(model.name)
        if model.name in found.failed:
            entries.append(entry | _without_scores())
            continue
        records = found.scored[model.name]
        values = values_of(records, samples)
        entry["scores"] = {sample.id: records[sample.id]["scores"] for sample in samples}
        entry["per_frame_psnr"] = {sample.id: records[sample.id]["per_frame_psnr"] for sample in samples}
        entry["summary"] = {key: _summary(table.display(key), each) for key, each in values.items()}
        entry["sets"] = {
            name: _sets(run, model, original, samples, name, found, extractors[name].covariance_ddof)
            for name in sorted(extractors)
        }
        entry["verdicts"] = [] if model.name == ORIGINAL else _verdicts(values, own)
        entry["step_error"] = None if model.name == ORIGINAL else _step_error(run, model, original, samples, found.made)
        entry["sensitivity"] = found.sensitivities.get(model.name)
        entries.append(entry)
    sizes = [entry["bf16_bytes"] for entry in entries if entry["bf16_bytes"] is not None and entry["failed"] is None]
    if sizes:  # what the quantized components take unquantized: the original's own size
        entries[0] |= {"stored_bytes": max(sizes), "bf16_bytes": max(sizes)}
    return entries


def _without_scores() -> dict[str, Any]:
    """What there is of a candidate that failed."""
    empty: dict[str, Any] = {name: {} for name in ("scores", "per_frame_psnr", "summary", "sets")}
    return {**empty, "verdicts": [], "step_error": None, "sensitivity": None}


def values_of(records: Mapping[str, Record], samples: Sequence[Sample]) -> dict[str, list[float | None]]:
    """One value a sample by metric; None is an identical video's PSNR.

    A metric that only some samples have (prompts that no judge knows) says nothing of all of them, and is left out.
    """
    scores = [records[sample.id]["scores"] for sample in samples]
    return {
        metric.key: [metric.value(each[metric.key]) for each in scores]
        for metric in table.metrics()
        if all(metric.key in each for each in scores)
    }


def _summary(metric: Display, values: Sequence[float | None]) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    found: dict[str, Any] = dict(mean_estimate(known).to_dict())
    if metric.identical:
        found["identical"] = len(values) - len(known)
    return found


def _verdicts(
    values: Mapping[str, Sequence[float | None]], own: Mapping[str, Sequence[float | None]]
) -> list[dict[str, Any]]:
    found = []
    for metric, candidate in values.items():
        if table.display(metric).kind == "own" and (None in own.get(metric, [None]) or None in candidate):
            continue
        loss = table.loss_of(metric, candidate, own.get(metric))
        for level in LEVELS:
            found.append({"metric": metric, "level": level, "verdict": verdict(loss, level), "loss": loss.to_dict()})
    return found


def _sets(
    run: RunFolder,
    model: Model,
    original: Model,
    samples: Sequence[Sample],
    name: str,
    found: Found,
    ddof: int,
) -> dict[str, Any]:
    """Distances of the set of a model's videos: to the original's, of the same seeds, and to real clips."""
    features = _features(run, model, samples, name, found)
    real = found.references.get(name)
    first = None if model.name == ORIGINAL else _features(run, original, samples, name, found)
    distances: dict[str, Any] = {}
    for distance in table.SET_DISTANCES:
        for which, other, paired in (("to_original", first, True), ("to_real", real, False)):
            value = None
            if other is not None and min(len(features), len(other)) > 1:
                value = distance.between(features, other, paired=paired, ddof=ddof)
            distances[f"{distance.prefix}{which}"] = value
    return dict(without_infinity(distances))


def _features(
    run: RunFolder, model: Model, samples: Sequence[Sample], name: str, found: Found
) -> npt.NDArray[np.float32]:
    """The features [N, D] of a model's videos by the extractor `name`."""
    records = found.scored[model.name]
    return np.stack(
        [
            read_array(run.features(name, model.fingerprint, sample.id), records[sample.id]["features"][name])
            for sample in samples
        ]
    )


def _step_error(
    run: RunFolder,
    model: Model,
    original: Model,
    samples: Sequence[Sample],
    made: Mapping[str, Made],
) -> dict[str, Any] | None:
    """How far the latents are from the original's after each step, estimated on some of their entries."""
    curves = []
    for sample in samples:
        both = [(each, made[each.fingerprint][sample.id]["steps_sha256"]) for each in (model, original)]
        if not all(sha256 for _, sha256 in both):
            return None
        one, other = (
            read_array(run.steps(each.fingerprint, sample.id), sha256).astype(np.float64) for each, sha256 in both
        )
        norms = np.linalg.norm(other, axis=1)
        if one.shape != other.shape or not norms.all():
            return None
        curves.append(np.linalg.norm(one - other, axis=1) / norms)
    if len({len(curve) for curve in curves}) != 1:
        return None
    error = np.mean(curves, axis=0)
    return {
        "steps": list(range(1, len(error) + 1)),
        "error": [float(value) for value in error],
        "estimated": f"from {one.shape[1]} entries of each latent",
    }
