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

from quant.calibration.layer_plan import Kept, LayerPlan
from quant.calibration.preparing import Prepared
from quant.calibration.solution import Solution
from quant.pipelines.settings import GenerationSettings
from quant.pipelines.snapshot import Snapshot
from quant.recipe import Recipe

_PACKAGES = ("quant-video", "torch", "diffusers", "transformers", "nvidia-modelopt", "safetensors")


def provenance(recipe: Recipe, source: str) -> dict[str, Any]:
    """The recipe, its hash, the model's name and the versions of everything that took part."""
    return {
        "model": source,
        "recipe": {"name": recipe.name, "sha256": recipe.sha256, "body": recipe.to_dict()},
        "versions": {"python": platform.python_version(), **_versions()},
    }


def calibration_record(recipe: Recipe, prompts: list[str] | None, settings: GenerationSettings) -> dict[str, Any]:
    """What the statistics came from. `prompts` is None where the caller's own loop ran the model."""
    return {
        "prompts": prompts,
        "seed": recipe.calibration.seed,
        "rows": recipe.calibration.rows,
        "settings": settings.given(),
    }


def layer_records(
    layers: Sequence[LayerPlan], solutions: Mapping[str, Solution], errors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One mapping a layer: name, kind, shape, scheme (None where kept), reason, and what was measured."""
    records = []
    for layer in layers:
        record: dict[str, Any] = {"name": layer.name, "kind": layer.kind, "shape": list(layer.shape)}
        if isinstance(layer, Kept):
            record.update(scheme=None, reason=layer.reason)
        else:
            layer_format = solutions[layer.name].layer_format(layer.layer_format)
            record.update(scheme=layer_format.label, weight_error=errors[layer.name])
            record.update(solutions[layer.name].notes)
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
        "prompts": start.prompts or [],
        "settings": start.settings.given(),
        "dtype": str(dtype),
        "model": [str(start.source.folder.resolve()), snapshot.seen],
        "versions": provenance(recipe, "")["versions"],
    }
    hashes = {name: _hash(part) for name, part in parts.items()}
    return {**hashes, "key": _hash(hashes)}


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
