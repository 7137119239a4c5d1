"""What decides how the videos of a run look, apart from the candidates: runs that differ in any of it are two runs."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import quant
from quant.devices import find_device
from quant.errors import QuantError
from quant.eval.inputs.config import EvaluationConfig
from quant.eval.inputs.models import Model
from quant.eval.locations import short_place
from quant.eval.storage.files import hash_of

_PACKAGES = ("torch", "diffusers", "quant-video")


def conditions_of(config: EvaluationConfig, original: Model) -> dict[str, Any]:
    """The "conditions" of the results: what was asked for, with the model's own settings and this machine filled in.

    Raises:
        QuantError: a device that is not here, or settings that the model's own do not go with.
    """
    device = str(find_device(config.device))
    gpu = _gpu(device)
    settings = quant.GenerationSettings.read(original.folder).merged(**config.settings.given())
    return {
        "model": short_place(config.model),
        "fingerprint": original.fingerprint,
        "settings": settings.given(),
        "dtype": config.dtype or ("float32" if device == "cpu" else "bfloat16"),
        "device": device,
        "gpu": gpu,
        "versions": {name: metadata.version(name) for name in _PACKAGES},
    }


def key_of(conditions: Mapping[str, Any]) -> str:
    """A hash of the conditions; a model that only lies elsewhere is the same, and so is another GPU of one kind."""
    kept = {name: value for name, value in conditions.items() if name != "model"}
    return hash_of({**kept, "device": kept["device"].partition(":")[0]})


def machine() -> dict[str, str]:
    """What else there is to say of this machine; no video depends on it."""
    return {"system": platform.system(), "python": platform.python_version(), "cpu": platform.machine()}


def _gpu(device: str) -> str | None:
    """The name of a GPU; None for the CPU. Raises QuantError for a device of another kind."""
    import torch

    found = torch.device(device)
    if found.type == "cpu":
        return None
    if found.type != "cuda":
        raise QuantError(f"device '{device}': videos are compared on cpu or cuda")
    return torch.cuda.get_device_name(found)
