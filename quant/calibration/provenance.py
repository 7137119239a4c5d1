"""What a checkpoint says about how it was made, and what a run of calibration depends on."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import torch

from quant.calibration.calls import Calls
from quant.calibration.layer_plan import Kept, LayerPlan
from quant.calibration.preparing import Prepared
from quant.calibration.solution import Solution
from quant.checkpoint.manifest import hashed
from quant.pipelines.rows import Row
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.snapshot import Snapshot
from quant.pipelines.source import Source
from quant.recipe import Recipe

_PACKAGES = ("quant-video", "torch", "diffusers", "transformers", "nvidia-modelopt", "safetensors")


def provenance(recipe: Recipe, source: str) -> dict[str, Any]:
    """The recipe, its hash, the model's name and the versions of everything that took part."""
    return {
        "model": source,
        "recipe": {"name": recipe.name, "sha256": recipe.sha256, "body": recipe.to_dict()},
        "versions": _versions(),
    }


def calibration_record(recipe: Recipe, rows: list[Row] | None, settings: GenerationSettings) -> dict[str, Any]:
    """What the statistics came from. `rows` is None where the caller's own loop ran the model.

    "inputs" is there where rows have more than a prompt: what else they have, files by name and hash.
    """
    more = {} if rows is None or _prompts_alone(rows) else {"inputs": [row.plain() for row in rows]}
    return {
        "prompts": None if rows is None else [row.text for row in rows],
        **more,
        "seed": recipe.calibration.seed,
        "rows": recipe.calibration.rows,
        "settings": settings.given(),
    }


def recorded_record(recipe: Recipe, calls: Calls) -> dict[str, Any]:
    """The same of recorded calls: the inputs that they are of, and which recording it is."""
    listed = calls.about.get("inputs")
    inputs = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    used = [inputs[row] for row in recorded_rows(calls) if row < len(inputs)]
    return {
        "prompts": [row.get("prompt", "") for row in used],
        "inputs": used,
        "recording": {
            # Of model, inputs, settings and versions. Not its key, in which a copy of the model is another one.
            "sha256": _hash(dict(calls.about)),
            "calls": {component: len(calls.places(component)) for component in calls.components},
            "seed": calls.about.get("seed"),
        },
        "seed": recipe.calibration.seed,
        "rows": recipe.calibration.rows,
        "settings": calls.about.get("settings", {}),
    }


def recorded_rows(calls: Calls) -> list[int]:
    """Numbers of the inputs that the calls of a recording are of."""
    return sorted({place.row for component in calls.components for place in calls.places(component)})


def layer_records(
    layers: Sequence[LayerPlan], solutions: Mapping[str, Solution], errors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One mapping a layer: name, kind, shape, scheme (None where kept), and what was measured.

    With the reason why it is kept; or why it is quantized otherwise than expected, where it is.
    """
    records = []
    for layer in layers:
        record: dict[str, Any] = {"name": layer.name, "kind": layer.kind, "shape": list(layer.shape)}
        if isinstance(layer, Kept):
            record.update(scheme=None, reason=layer.reason)
        else:
            layer_format = solutions[layer.name].layer_format(layer.layer_format)
            record.update(scheme=layer_format.label, weight_error=errors[layer.name])
            record.update(solutions[layer.name].notes)
            record.update({"reason": layer.note} if layer.note else {})
        records.append(record)
    return records


def run_of(start: Prepared, snapshot: Snapshot, dtype: torch.dtype) -> dict[str, str]:
    """A hash of each thing that statistics and solutions depend on, by its name, and of all of them: "key".

    A keep budget is none of them: it is about what is measured afterwards. Nor is a file's inode: a model that was
    moved away and back is the same.
    """
    recipe = replace(start.recipe, keep_budget=None)
    parts = {
        "recipe": recipe.sha256,
        "inputs": _of_rows(start.rows or []) if start.calls is None else start.calls.key,
        "settings": start.settings.given(),
        "dtype": str(dtype),
        "model": [str(start.source.folder.resolve()), snapshot.seen],
    }
    return _run(parts)


def recording_run(
    source: Source,
    components: Sequence[str],
    snapshot: Snapshot,
    rows: Sequence[Row],
    settings: GenerationSettings,
    *,
    seed: int,
    count: int,
    dtype: torch.dtype,
) -> dict[str, str]:
    """The same of what a recording of denoisers' calls depends on; "calls" is how many steps are recorded."""
    parts = {
        "components": list(components),
        "inputs": _of_rows(rows),
        "settings": settings.given(),
        "seed": seed,
        "calls": count,
        "dtype": str(dtype),
        "model": [str(source.folder.resolve()), snapshot.seen],
    }
    return _run(parts)


def recording_record(
    source: Source,
    components: Sequence[str],
    rows: Sequence[Row],
    settings: GenerationSettings,
    *,
    seed: int,
    count: int,
    dtype: torch.dtype,
) -> dict[str, Any]:
    """What a recording says of where it comes from: the model by the hash of each denoiser's files."""
    return {
        "model": {"name": source.name, "components": {name: model_hash(source, name) for name in components}},
        "inputs": [row.plain() for row in rows],
        "settings": settings.given(),
        "seed": seed,
        "steps_recorded": count,
        "dtype": str(dtype).removeprefix("torch."),
        "versions": _versions(),
    }


def model_hash(source: Source, component: str) -> str:
    """SHA-256 of all files of a component, wherever they lie: a copy of a model is the same model."""
    folder = source.component_folder(component)
    files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")}
    return _hash(sorted(hashed(files).items()))


def _run(parts: Mapping[str, object]) -> dict[str, str]:
    """The hash of each part of a run and of the versions that take part, and of all of them."""
    hashes = {name: _hash(part) for name, part in [*parts.items(), ("versions", _versions())]}
    return {**hashes, "key": _hash(hashes)}


def _prompts_alone(rows: Sequence[Row]) -> bool:
    return all(row.is_prompt for row in rows)


def _of_rows(rows: Sequence[Row]) -> list[Any]:
    return [row.text for row in rows] if _prompts_alone(rows) else [row.plain() for row in rows]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
