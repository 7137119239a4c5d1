"""`from_pretrained(..., quantization_config=QuantConfig("fp8-dynamic"))`: quantized while diffusers loads it.

Weights are loaded in their own precision and then packed, so memory for both is needed. `quant.calibrate` and
`quant.convert` need it for one block, or one tensor.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusers.quantizers import auto
from diffusers.quantizers.base import DiffusersQuantizer
from diffusers.quantizers.quantization_config import QuantizationConfigMixin
from torch import nn

from quant.api.hf_quantizer import Quantizer
from quant.api.loading import Method
from quant.api.quantize import quantize
from quant.api.record import attach, record_of
from quant.calibration.solving import needs_data
from quant.errors import RecipeError
from quant.layers.replace import quantized_layers, replace
from quant.recipe import Recipe
from quant.recipe_files import find_recipe

_METHOD = "quant-recipe"


class QuantConfig(QuantizationConfigMixin):  # type: ignore[misc]  # diffusers ships no types
    """A recipe that needs no data, as diffusers' `from_pretrained` and `PipelineQuantizationConfig` take it."""

    def __init__(self, recipe: str | Path | Recipe) -> None:
        """Raises RecipeError for a recipe that is not there, is wrong, or needs calibration data.

        Args:
            recipe: a shipped recipe's name, the path of a YAML file, or a Recipe.
        """
        self.recipe = find_recipe(recipe)
        self.given = recipe
        self.quant_method = Method(_METHOD)
        if needs_data(self.recipe):
            raise RecipeError(
                f"{self.recipe.name}: needs calibration data, and from_pretrained has none: use quant.calibrate, or a "
                "recipe such as fp8-dynamic"
            )

    def to_dict(self) -> dict[str, Any]:
        return {"quant_method": str(self.quant_method), "recipe": self.recipe.name}

    def to_diff_dict(self) -> dict[str, Any]:
        return self.to_dict()


class RecipeQuantizer(DiffusersQuantizer):  # type: ignore[misc]
    """Quantizes a model that diffusers has just loaded; it then is as one loaded from a checkpoint of ours."""

    use_keep_in_fp32_modules = True
    quantization_config: Any  # a QuantConfig, and when the model is quantized what its checkpoint would have
    is_serializable = True
    is_trainable = False

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Raises RecipeError where layers would be spread over devices before they are packed."""
        places = kwargs.get("device_map")
        if isinstance(places, dict) and len(set(places.values())) > 1:
            raise RecipeError(
                "a model is quantized while it is loaded on one device only: save it, and load that with device_map"
            )

    def _process_model_before_weight_loading(self, model: nn.Module, **kwargs: Any) -> None:
        """Nothing: weights are loaded as they are."""

    def _process_model_after_weight_loading(self, model: nn.Module, **kwargs: Any) -> nn.Module:
        made = quantize(model, self.quantization_config.given, progress=False)
        for name, layer in quantized_layers(made).items():
            replace(model, name, layer)
        attach(model, record_of(made))
        known: Any = model
        self.inner: Quantizer = known.hf_quantizer
        self.quantization_config = self.inner.quantization_config
        return model

    def _dequantize(self, model: nn.Module) -> nn.Module:
        return self.inner._dequantize(model)

    @property
    def is_compileable(self) -> bool:
        return True


def register() -> None:
    """Teaches diffusers the method of `QuantConfig`."""
    auto.AUTO_QUANTIZER_MAPPING.setdefault(_METHOD, RecipeQuantizer)
    auto.AUTO_QUANTIZATION_CONFIG_MAPPING.setdefault(_METHOD, QuantConfig)
