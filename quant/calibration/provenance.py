"""What a checkpoint says about how it was made."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from quant.pipelines.settings import GenerationSettings
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


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
