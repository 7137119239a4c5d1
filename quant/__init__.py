"""Makes video diffusion models smaller and faster: recipe -> calibrated checkpoint -> diffusers -> kernels.

The public names are loaded when they are first used, so that `import quant` is quick and needs nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant.errors import QuantError
    from quant.models.generation import GenerationSettings
    from quant.models.layer_plan import layer_groups
    from quant.recipe import Recipe
    from quant.recipe_parts import KeepBudget
    from quant.workflows.calibrating import calibrate
    from quant.workflows.inspecting import inspect
    from quant.workflows.loading import load
    from quant.workflows.quantizing import quantize
    from quant.workflows.saving import save
    from quant.workflows.sensitivity import Sensitivity, SensitivityUnit, measure_sensitivity

__all__ = [
    "GenerationSettings",
    "KeepBudget",
    "QuantError",
    "Recipe",
    "Scheme",
    "Sensitivity",
    "SensitivityUnit",
    "calibrate",
    "inspect",
    "layer_groups",
    "load",
    "measure_sensitivity",
    "quantize",
    "save",
]

_HOMES = {
    "GenerationSettings": "quant.models.generation",
    "KeepBudget": "quant.recipe_parts",
    "QuantError": "quant.errors",
    "Recipe": "quant.recipe",
    "Scheme": "quant.formats.scheme",
    "Sensitivity": "quant.workflows.sensitivity",
    "SensitivityUnit": "quant.workflows.sensitivity",
    "calibrate": "quant.workflows.calibrating",
    "inspect": "quant.workflows.inspecting",
    "layer_groups": "quant.models.layer_plan",
    "load": "quant.workflows.loading",
    "measure_sensitivity": "quant.workflows.sensitivity",
    "quantize": "quant.workflows.quantizing",
    "save": "quant.workflows.saving",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'quant' has no attribute '{name}'")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
