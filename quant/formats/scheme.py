"""What "quantized" means for one layer: number format and granularity of its weight and its input.

Names, fields and JSON are those of compressed-tensors, so a recipe written for llm-compressor reads the same.
This file imports no torch: the command line lists schemes without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from quant.errors import RecipeError
from quant.text import shown

#: Rows and columns of a block that shares a scale, the only size kernels run.
BLOCK = (128, 128)


@dataclass(frozen=True)
class TensorFormat:
    """How one tensor is quantized.

    Examples, for a weight [N, K] and an input [..., K]:
        strategy "channel": one scale per output channel, scale [N, 1]
        strategy "tensor":  one scale, scale [1]
        strategy "token":   one scale per row of the input, found while running (dynamic)
        strategy "group":   one scale per row and `group_size` columns, scale [N, K/group_size]
        strategy "block":   one scale per `block_structure` of rows and columns, scale [N/128, K/128], rounded up
    """

    num_bits: int
    type: str
    strategy: str
    symmetric: bool = True
    dynamic: bool = False
    group_size: int | None = None
    block_structure: tuple[int, int] | None = None

    def to_dict(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "num_bits": self.num_bits,
            "type": self.type,
            "symmetric": self.symmetric,
            "strategy": self.strategy,
            "dynamic": self.dynamic,
        }
        if self.group_size is not None:
            body["group_size"] = self.group_size
        if self.block_structure is not None:
            body["block_structure"] = list(self.block_structure)
        return body

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], where: str, *, of_file: bool = False) -> TensorFormat:
        """Reads compressed-tensors' QuantizationArgs; keys set to None there count as absent.

        Args:
            fields: num_bits, type, strategy, symmetric, dynamic, group_size, block_structure.
            where: what to name in errors.
            of_file: from a checkpoint rather than a recipe: that library dumps every field it has, also those that
                say how scales were found. In a recipe they would be a wish that nobody hears.

        Raises:
            RecipeError: a key that is missing, or one that this library would have to ignore.
        """
        known = {"num_bits", "type", "strategy", "symmetric", "dynamic", "group_size", "block_structure"}
        informative = {"observer", "observer_kwargs", "scale_dtype", "zp_dtype", "actorder"} if of_file else set()
        given = {key: value for key, value in fields.items() if value is not None and key not in informative}
        unknown = [key for key in given if key not in known]
        if unknown:
            raise RecipeError(f"{where}: unknown key {shown(unknown[0])}; known: {', '.join(sorted(known))}")
        missing = [key for key in ("num_bits", "type", "strategy") if key not in given]
        if missing:
            raise RecipeError(f"{where}: '{missing[0]}' is missing")
        if type(given["num_bits"]) is not int:  # 4.0 equals 4, and no reader of the checkpoint takes it
            raise RecipeError(f"{where}.num_bits: must be a whole number, got {shown(given['num_bits'])}")
        for key in ("type", "strategy"):
            if not isinstance(given[key], str):
                raise RecipeError(f"{where}.{key}: must be a word, got {shown(given[key])}")
        for key in ("symmetric", "dynamic"):
            if not isinstance(given.get(key, False), bool):
                raise RecipeError(f"{where}.{key}: must be true or false, got {shown(given[key])}")
        if "block_structure" in given:
            given["block_structure"] = _block_structure(given["block_structure"], where)
        _check_group_size(given, where)
        return cls(**given)


def _block_structure(value: object, where: str) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or tuple(value) != BLOCK or any(type(size) is not int for size in value):
        raise RecipeError(f"{where}.block_structure: must be {list(BLOCK)}, got {shown(value)}")
    return BLOCK


def _check_group_size(given: Mapping[str, Any], where: str) -> None:
    size = given.get("group_size")
    if (given["strategy"] == "group") != (size is not None):
        raise RecipeError(f"{where}: group_size goes with strategy 'group' and only then")
    if size is not None and (type(size) is not int or size not in GROUP_SIZES):
        raise RecipeError(f"{where}.group_size: must be one of {', '.join(map(str, GROUP_SIZES))}, got {shown(size)}")
    if (given["strategy"] == "block") != ("block_structure" in given):
        raise RecipeError(f"{where}: block_structure goes with strategy 'block' and only then")


#: Columns of a weight that may share a scale.
GROUP_SIZES = (32, 64, 128)
#: The scheme without formats: such a layer is only sparse.
UNQUANTIZED = "UNQUANTIZED"
_INT = "int"
_FLOAT = "float"


@dataclass(frozen=True)
class Scheme:
    """Weight and input formats of a quantized Linear.

    Attributes:
        name: the scheme's name in upper case, or a spelled-out one such as "INT8_CHANNEL_X_TENSOR".
        weights: format of the weight, always static; None where it stays as it is, for a layer that is only sparse.
        input_activations: format of the input; None where it stays as it is.
    """

    name: str
    weights: TensorFormat | None
    input_activations: TensorFormat | None = None

    @property
    def format(self) -> str:
        """compressed-tensors' name of the layout in the file."""
        if self.weights is None:
            return "dense"
        if self.is_packed:
            return "pack-quantized"
        return "int-quantized" if self.weights.type == _INT else "float-quantized"

    @property
    def is_packed(self) -> bool:
        """True where several codes share an int32 in the file: 4-bit weights, and 8-bit ones for 16-bit inputs."""
        return self.weights is not None and (self.weights.num_bits == 4 or self.input_activations is None)

    @property
    def has_static_input(self) -> bool:
        """True where a calibrated `input_scale` is stored."""
        return self.input_activations is not None and not self.input_activations.dynamic

    def to_dict(self) -> dict[str, Any]:
        """The body of a compressed-tensors config group, without its targets."""
        parts = (("weights", self.weights), ("input_activations", self.input_activations))
        return {**{key: part.to_dict() for key, part in parts if part is not None}, "format": self.format}

    @classmethod
    def parse(cls, value: str | Mapping[str, Any], where: str = "scheme") -> Scheme:
        """A scheme from its name, or from its parts as compressed-tensors spells them.

        Args:
            value: a name such as "W8A8" (any case), or {"weights": {...}, "input_activations": {...}}, the second
                of which may be missing: the input stays as it is.
            where: what to name in errors, such as "groups[0].scheme".

        Raises:
            RecipeError: an unknown name, or parts that no kernel of this library runs.
        """
        if isinstance(value, str):
            found = SCHEMES.get(_ALIASES.get(value.upper(), value.upper()))
            if found is None:
                raise RecipeError(f"{where}: unknown scheme {shown(value)}; known: {', '.join(SCHEMES)}")
            return found
        unknown = [key for key in value if key not in ("weights", "input_activations")]
        if unknown:
            raise RecipeError(f"{where}: unknown key {shown(unknown[0])}; known: weights, input_activations")
        if not isinstance(value.get("weights"), Mapping):
            raise RecipeError(f"{where}: 'weights' is missing")
        inputs = value.get("input_activations")
        if inputs is not None and not isinstance(inputs, Mapping):
            raise RecipeError(f"{where}: 'input_activations' must be a mapping, got {shown(inputs)}")
        return _named(
            TensorFormat.from_dict(value["weights"], f"{where}.weights"),
            None if inputs is None else TensorFormat.from_dict(inputs, f"{where}.input_activations"),
            where,
        )


def _named(weights: TensorFormat, inputs: TensorFormat | None, where: str) -> Scheme:
    """The scheme with these parts under its shortest name; refuses what no op can run."""
    for scheme in SCHEMES.values():
        if (scheme.weights, scheme.input_activations) == (weights, inputs):
            return scheme
    if weights.dynamic:
        raise RecipeError(f"{where}.weights: a weight's scales are static")
    if weights.num_bits == 8 and inputs is not None:
        return _eight_bit(weights, inputs, where)
    return _packed(weights, inputs, where)


def _eight_bit(weights: TensorFormat, inputs: TensorFormat, where: str) -> Scheme:
    """What `scaled_mm` runs."""
    if weights.type not in (_INT, _FLOAT) or not weights.symmetric:
        raise RecipeError(f"{where}.weights: supported are symmetric static 8-bit 'int' and 'float'")
    if weights.strategy not in ("channel", "tensor"):
        raise RecipeError(f"{where}.weights: strategy {shown(weights.strategy)}; supported: channel, tensor")
    if (inputs.num_bits, inputs.type, inputs.symmetric) != (8, weights.type, True):
        raise RecipeError(f"{where}.input_activations: must be symmetric 8-bit '{weights.type}' as the weights")
    if (inputs.strategy, inputs.dynamic) not in (("token", True), ("tensor", False)):
        raise RecipeError(f"{where}.input_activations: supported are dynamic 'token' and static 'tensor'")
    kind = "INT8" if weights.type == _INT else "FP8"
    return Scheme(f"{kind}_{weights.strategy}_x_{inputs.strategy}".upper(), weights, inputs)


def _packed(weights: TensorFormat, inputs: TensorFormat | None, where: str) -> Scheme:
    """What `int4_mm` and `int8_mm` run."""
    if weights.type != _INT or weights.num_bits not in (4, 8):
        raise RecipeError(f"{where}.weights: supported are 4- and 8-bit 'int' and 8-bit 'float' with 8-bit inputs")
    if weights.strategy not in ("group", "channel"):
        raise RecipeError(f"{where}.weights: strategy {shown(weights.strategy)}; supported: group, channel")
    if not weights.symmetric and (weights.num_bits == 8 or inputs is not None):
        raise RecipeError(f"{where}.weights: asymmetric is supported for 4-bit weights of 16-bit inputs")
    if inputs is not None and (inputs.num_bits, inputs.symmetric, inputs.strategy, inputs.dynamic) != (
        8,
        True,
        "token",
        True,
    ):
        raise RecipeError(f"{where}.input_activations: 4-bit weights take 16-bit inputs or dynamic 8-bit 'token' ones")
    if inputs is not None and inputs.type not in (_INT, _FLOAT):
        raise RecipeError(f"{where}.input_activations.type: must be '{_INT}' or '{_FLOAT}', got {inputs.type!r}")
    bits = "16" if inputs is None else "8" if inputs.type == _INT else "FP8"
    by = "CHANNEL" if weights.group_size is None else f"G{weights.group_size}"
    kind = "" if weights.symmetric else "_ASYM"
    return Scheme(f"W{weights.num_bits}A{bits}{kind}_{by}", weights, inputs)


_FP8_TOKEN = TensorFormat(8, _FLOAT, "token", dynamic=True)
_INT8_TOKEN = TensorFormat(8, _INT, "token", dynamic=True)
_INT4_GROUPS = TensorFormat(4, _INT, "group", group_size=128)
SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("FP8_DYNAMIC", TensorFormat(8, _FLOAT, "channel"), _FP8_TOKEN),
        Scheme("FP8", TensorFormat(8, _FLOAT, "tensor"), TensorFormat(8, _FLOAT, "tensor")),
        Scheme(
            "FP8_BLOCK",
            TensorFormat(8, _FLOAT, "block", block_structure=BLOCK),
            TensorFormat(8, _FLOAT, "group", dynamic=True, group_size=BLOCK[1]),
        ),
        Scheme("W8A8", TensorFormat(8, _INT, "channel"), _INT8_TOKEN),
        Scheme("W8A16", TensorFormat(8, _INT, "group", group_size=128)),
        Scheme("W4A16", _INT4_GROUPS),
        Scheme("W4A16_ASYM", TensorFormat(4, _INT, "group", symmetric=False, group_size=128)),
        Scheme("W4A8", _INT4_GROUPS, _INT8_TOKEN),
        Scheme("W4AFP8", _INT4_GROUPS, _FP8_TOKEN),
        # A layer that is only sparse; on its own it names nothing to do.
        Scheme(UNQUANTIZED, None),
    )
}
_ALIASES = {"INT8": "W8A8"}
