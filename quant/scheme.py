"""What "quantized" means for one layer: number format and granularity of its weight and its input.

Names, fields and JSON are those of compressed-tensors, so a recipe written for llm-compressor reads the same.
This file imports no torch: the command line lists schemes without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quant.errors import RecipeError


@dataclass(frozen=True)
class TensorFormat:
    """How one tensor is quantized.

    Examples, for a weight [N, K] and an input [..., K]:
        strategy "channel": one scale per output channel, scale [N, 1]
        strategy "tensor":  one scale, scale [1]
        strategy "token":   one scale per row of the input, found while running (dynamic)
    """

    num_bits: int
    type: str
    strategy: str
    symmetric: bool = True
    dynamic: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            "num_bits": self.num_bits,
            "type": self.type,
            "symmetric": self.symmetric,
            "strategy": self.strategy,
            "dynamic": self.dynamic,
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], where: str, *, of_file: bool = False) -> TensorFormat:
        """Reads compressed-tensors' QuantizationArgs; keys set to None there count as absent.

        Args:
            fields: num_bits, type, strategy, symmetric, dynamic.
            where: what to name in errors.
            of_file: from a checkpoint rather than a recipe: that library dumps every field it has, also those that
                say how scales were found. In a recipe they would be a wish that nobody hears.

        Raises:
            RecipeError: a key that is missing, or one that this library would have to ignore.
        """
        known = {"num_bits", "type", "strategy", "symmetric", "dynamic"}
        informative = {"observer", "observer_kwargs", "scale_dtype", "zp_dtype"} if of_file else set()
        given = {key: value for key, value in fields.items() if value is not None and key not in informative}
        unknown = [key for key in given if key not in known]
        if unknown:
            raise RecipeError(f"{where}: unknown key '{unknown[0]}'; known: {', '.join(sorted(known))}")
        missing = [key for key in ("num_bits", "type", "strategy") if key not in given]
        if missing:
            raise RecipeError(f"{where}: '{missing[0]}' is missing")
        for key in ("symmetric", "dynamic"):
            if not isinstance(given.get(key, False), bool):
                raise RecipeError(f"{where}.{key}: must be true or false, got {given[key]!r}")
        return cls(**given)


_INT8 = "int"
_FP8 = "float"


@dataclass(frozen=True)
class Scheme:
    """Weight and input formats of a quantized Linear.

    Attributes:
        name: the scheme's name in upper case, or a spelled-out one such as "INT8_CHANNEL_X_TENSOR".
        weights: format of the weight, always static.
        input_activations: format of the input.
    """

    name: str
    weights: TensorFormat
    input_activations: TensorFormat

    @property
    def format(self) -> str:
        """compressed-tensors' name of the layout in the file."""
        return "int-quantized" if self.weights.type == _INT8 else "float-quantized"

    @property
    def has_static_input(self) -> bool:
        """True where a calibrated `input_scale` is stored."""
        return not self.input_activations.dynamic

    def to_dict(self) -> dict[str, Any]:
        """The body of a compressed-tensors config group, without its targets."""
        return {
            "weights": self.weights.to_dict(),
            "input_activations": self.input_activations.to_dict(),
            "format": self.format,
        }

    @classmethod
    def parse(cls, value: str | Mapping[str, Any], where: str = "scheme") -> Scheme:
        """A scheme from its name, or from its parts as compressed-tensors spells them.

        Args:
            value: a name such as "W8A8" (any case), or {"weights": {...}, "input_activations": {...}}.
            where: what to name in errors, such as "groups[0].scheme".

        Raises:
            RecipeError: an unknown name, or parts that no kernel of this library runs.
        """
        if isinstance(value, str):
            found = SCHEMES.get(_ALIASES.get(value.upper(), value.upper()))
            if found is None:
                raise RecipeError(f"{where}: unknown scheme '{value}'; known: {', '.join(SCHEMES)}")
            return found
        unknown = [key for key in value if key not in ("weights", "input_activations")]
        if unknown:
            raise RecipeError(f"{where}: unknown key '{unknown[0]}'; known: weights, input_activations")
        parts = {}
        for key in ("weights", "input_activations"):
            if not isinstance(value.get(key), Mapping):
                raise RecipeError(f"{where}: '{key}' is missing; weight-only schemes are not supported yet")
            parts[key] = TensorFormat.from_dict(value[key], f"{where}.{key}")
        return _named(parts["weights"], parts["input_activations"], where)


def _named(weights: TensorFormat, inputs: TensorFormat, where: str) -> Scheme:
    """The scheme with these parts under its shortest name; refuses what `scaled_mm` cannot run."""
    for scheme in SCHEMES.values():
        if (scheme.weights, scheme.input_activations) == (weights, inputs):
            return scheme
    if weights.num_bits != 8 or weights.type not in (_INT8, _FP8) or not weights.symmetric or weights.dynamic:
        raise RecipeError(f"{where}.weights: supported are symmetric static 8-bit 'int' and 'float'")
    if weights.strategy not in ("channel", "tensor"):
        raise RecipeError(f"{where}.weights: strategy '{weights.strategy}'; supported: channel, tensor")
    if (inputs.num_bits, inputs.type, inputs.symmetric) != (8, weights.type, True):
        raise RecipeError(f"{where}.input_activations: must be symmetric 8-bit '{weights.type}' as the weights")
    if (inputs.strategy, inputs.dynamic) not in (("token", True), ("tensor", False)):
        raise RecipeError(f"{where}.input_activations: supported are dynamic 'token' and static 'tensor'")
    kind = "INT8" if weights.type == _INT8 else "FP8"
    return Scheme(f"{kind}_{weights.strategy}_x_{inputs.strategy}".upper(), weights, inputs)


SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("FP8_DYNAMIC", TensorFormat(8, _FP8, "channel"), TensorFormat(8, _FP8, "token", dynamic=True)),
        Scheme("FP8", TensorFormat(8, _FP8, "tensor"), TensorFormat(8, _FP8, "tensor")),
        Scheme("W8A8", TensorFormat(8, _INT8, "channel"), TensorFormat(8, _INT8, "token", dynamic=True)),
    )
}
_ALIASES = {"INT8": "W8A8"}
