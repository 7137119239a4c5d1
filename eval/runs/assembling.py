"""Puts the results of a run together from its journals and features. What is on disk alone decides: a run that was
killed and resumed has the results of one that was not, byte for byte but for when they were made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from quant.eval.inputs.config import ORIGINAL
from quant.eval.inputs.models import Model, describe
from quant.eval.inputs.samples import Sample
from quant.eval.locations import short_place
from quant.eval.metrics import table
from quant.eval.metrics.base import Display
from quant.eval.storage.files import read_array
from quant.eval.storage.folder import RunFolder
from quant.eval.storage.journal import Record


def model_results(
    run: RunFolder,
    models: Sequence[Model],
    samples: Sequence[Sample],
    made: Mapping[str, Mapping[str, Record]],
    scored: Mapping[str, Mapping[str, Record]],
    extractors: Mapping[str, Any],
    references: Mapping[str, npt.NDArray[np.float32]],
    sensitivity: Mapping[str, Any],
    failed: Mapping[str, str],
) -> list[dict[str, Any]]:
    """The "models" of the results, the original first.

    Args:
        made, scored: records by model's name and sample's id.
        extractors: of the set metrics, by name.
        references: features of real clips [N, D] by extractor's name; empty where there are none.
        sensitivity: measured sensitivities by candidate's name.
        failed: by name, why a candidate has no scores.
    """
    original = models[0]
    own = values_of(scored[ORIGINAL], samples)
    entries = []
    for model in models:
        entry: dict[str, Any] = {
            "name": model.name,
            "source": short_place(model.source),
            "fingerprint": model.fingerprint,
        }
        entry |= describe(model)
        entry["failed"] = failed.get(model.name)
        if model.name in failed:
            entries.append(entry | _without_scores())
            continue
        records = scored[model.name]
        values = values_of(records, samples)
        entry["scores"] = {sample.id: records[sample.id]["scores"] for sample in samples}
        entry["per_frame_psnr"] = {sample.id: records[sample.id]["per_frame_psnr"] for sample in samples}
        entry["summary"] = {key: _summary(table.display(key), found) for key, found in values.items()}
        entry["sets"] = {
            name: _sets(run, model, original, samples, name, scored, references, extractors[name].covariance_ddof)
            for name in sorted(extractors)
        }
        entry["verdicts"] = [] if model.name == ORIGINAL else _verdicts(values, own)
        entry["step_error"] = None if model.name == ORIGINAL else _step_error(run, model, original, samples, made)
        entry["sensitivity"] = sensitivity.get(model.name)
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
    """By metric, one value a sample; None is an identical video's PSNR.

    A metric that only some samples have (prompts that no judge knows) says nothing of all of them, and is left out.
    """
    scores = [records[sample.id]["scores"] for sample in samples]
    return {
        metric.key: [metric.value(each[metric.key]) for each in scores]
        for metric in table.metrics()
        if all(metric.key in each for each in scores)
    }


def without_infinity(value: Any) -> Any:
    """JSON has neither infinity nor NaN: None."""
    if isinstance(value, dict):
        return {key: without_infinity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinity(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _summary(metric: Display, values: Sequence[float | None]) -> dict[str, Any]:
    from quant.eval.metrics.intervals import mean_estimate

    known = [value for value in values if value is not None]
    found: dict[str, Any] = dict(mean_estimate(known).to_dict()) if known else _nothing()
    if metric.identical:
        found["identical"] = len(values) - len(known)
    return found


def _nothing() -> dict[str, Any]:
    return {"value": None, "low": None, "high": None, "n": 0}


def _verdicts(
    values: Mapping[str, Sequence[float | None]], own: Mapping[str, Sequence[float | None]]
) -> list[dict[str, Any]]:
    from quant.eval.metrics.verdicts import LEVELS, loss_of, verdict

    found = []
    for metric, candidate in values.items():
        if table.display(metric).kind == "own" and (None in own.get(metric, [None]) or None in candidate):
            continue
        loss = loss_of(metric, candidate, own.get(metric))
        for level in LEVELS:
            found.append({"metric": metric, "level": level, "verdict": verdict(loss, level), "loss": loss.to_dict()})
    return found


def _sets(
    run: RunFolder,
    model: Model,
    original: Model,
    samples: Sequence[Sample],
    name: str,
    scored: Mapping[str, Mapping[str, Record]],
    references: Mapping[str, npt.NDArray[np.float32]],
    ddof: int,
) -> dict[str, Any]:
    """Distances of the set of a model's videos: to the original's, of the same seeds, and to real clips."""
    features = _features(run, model, samples, name, scored)
    real = references.get(name)
    first = None if model.name == ORIGINAL else _features(run, original, samples, name, scored)
    found: dict[str, Any] = {}
    for distance in table.SET_DISTANCES:
        for which, other, paired in (("to_original", first, True), ("to_real", real, False)):
            value = None
            if other is not None and min(len(features), len(other)) > 1:
                value = distance.between(features, other, paired=paired, ddof=ddof)
            found[f"{distance.prefix}{which}"] = value
    return dict(without_infinity(found))


def _features(
    run: RunFolder,
    model: Model,
    samples: Sequence[Sample],
    name: str,
    scored: Mapping[str, Mapping[str, Record]],
) -> npt.NDArray[np.float32]:
    """[N, D]."""
    return np.stack(
        [
            read_array(
                run.features(name, model.fingerprint, sample.id), scored[model.name][sample.id]["features"][name]
            )
            for sample in samples
        ]
    )


def _step_error(
    run: RunFolder,
    model: Model,
    original: Model,
    samples: Sequence[Sample],
    made: Mapping[str, Mapping[str, Record]],
) -> dict[str, Any] | None:
    """How far the latents are from the original's after each step, estimated on some of their entries."""
    curves = []
    for sample in samples:
        both = [(each, made[each.name][sample.id]["steps_sha256"]) for each in (model, original)]
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
