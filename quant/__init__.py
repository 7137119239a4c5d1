"""Makes video diffusion models smaller and faster: recipe -> calibrated checkpoint -> diffusers -> kernels.

The public names are loaded when they are first used, so that `import quant` is quick and needs nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quant.api.calibrate import calibrate
    from quant.api.convert import convert
    from quant.api.export import Exported, export
    from quant.api.generate import Generated, generate
    from quant.api.inspect import inspect
    from quant.api.load import load
    from quant.api.quantize import quantize
    from quant.api.record_calls import record
    from quant.api.save import save
    from quant.api.sensitivity import measure_sensitivity
    from quant.api.verify import Verified, verify
    from quant.calibration.layer_plan import layer_groups
    from quant.checkpoint.sensitivity import Sensitivity, SensitivityUnit
    from quant.errors import QuantError
    from quant.pipelines.settings import GenerationSettings
    from quant.recipe import Recipe
    from quant.recipe_parts import KeepBudget

__all__ = [
    "Exported",
    "Generated",
    "GenerationSettings",
    "KeepBudget",
    "QuantError",
    "Recipe",
    "Scheme",
    "Sensitivity",
    "SensitivityUnit",
    "Verified",
    "calibrate",
    "convert",
    "export",
    "generate",
    "inspect",
    "layer_groups",
    "load",
    "measure_sensitivity",
    "quantize",
    "record",
    "save",
    "verify",
]

_HOMES = {
    "Exported": "quant.api.export",
    "Generated": "quant.api.generate",
    "GenerationSettings": "quant.pipelines.settings",
    "KeepBudget": "quant.recipe_parts",
    "QuantError": "quant.errors",
    "Recipe": "quant.recipe",
    "Scheme": "quant.formats.scheme",
    "Sensitivity": "quant.checkpoint.sensitivity",
    "SensitivityUnit": "quant.checkpoint.sensitivity",
    "Verified": "quant.api.verify",
    "calibrate": "quant.api.calibrate",
    "convert": "quant.api.convert",
    "export": "quant.api.export",
    "generate": "quant.api.generate",
    "inspect": "quant.api.inspect",
    "layer_groups": "quant.calibration.layer_plan",
    "load": "quant.api.load",
    "measure_sensitivity": "quant.api.sensitivity",
    "quantize": "quant.api.quantize",
    "record": "quant.api.record_calls",
    "save": "quant.api.save",
    "verify": "quant.api.verify",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'quant' has no attribute '{name}'")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
