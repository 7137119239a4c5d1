"""What "quantized" means for one layer: number format and granularity of its weight and its input.

Names, fields and JSON are those of compressed-tensors, so a recipe written for llm-compressor reads the same.
This file imports no torch: the command line lists schemes without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
        from quant.formats.table import file_formats  # here, so that the names of schemes need no torch

        return file_formats(self)[0]

    @property
    def same_numbers(self) -> bool:
        """True where weight and input are codes of the same numbers, so that nothing is unpacked between them."""
        weights, inputs = self.weights, self.input_activations
        if weights is None or inputs is None:
            return False
        return (weights.num_bits, weights.type) == (inputs.num_bits, inputs.type)

    @property
    def has_groups(self) -> bool:
        """True where some columns of a weight's row share a scale."""
        return self.weights is not None and self.weights.group_size is not None

    @property
    def has_static_input(self) -> bool:
        """True where a calibrated `input_scale` is stored."""
        return self.input_activations is not None and not self.input_activations.dynamic

    def to_dict(self) -> dict[str, Any]:
        """The body of a compressed-tensors config group, without its targets."""
        parts = (("weights", self.weights), ("input_activations", self.input_activations))
        return {**{key: part.to_dict() for key, part in parts if part is not None}, "format": self.format}

    def with_groups_of(self, size: int) -> Scheme:
        """The scheme with so many columns of a weight to a scale, named such as "W4A16_G64"; its own has groups too."""
        assert self.weights is not None
        return _named(replace(self.weights, group_size=size), self.input_activations, self.name)

    @classmethod
    def parse(cls, value: str | Mapping[str, Any], where: str = "scheme") -> Scheme:
        """A scheme from its name, or from its parts as compressed-tensors spells them.

        Args:
            value: a name such as "W8A8", or "W4A16_G64" for W4A16 in groups of 64 (any case); or {"weights": {...},
                "input_activations": {...}}, the second of which may be missing: the input stays as it is.
            where: what to name in errors, such as "groups[0].scheme".

        Raises:
            RecipeError: an unknown name, or parts that no kernel of this library runs.
        """
        if isinstance(value, str):
            found = _by_name(value.upper())
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


def _by_name(name: str) -> Scheme | None:
    base, _, size = name.rpartition("_G")
    grouped = SCHEMES.get(base)
    if grouped is not None and grouped.has_groups and size in map(str, GROUP_SIZES):
        return grouped.with_groups_of(int(size))
    return SCHEMES.get(_ALIASES.get(name, name))


def _named(weights: TensorFormat, inputs: TensorFormat | None, where: str) -> Scheme:
    """The scheme with these parts under its shortest name; refuses what no op can run."""
    for scheme in SCHEMES.values():
        if (scheme.weights, scheme.input_activations) == (weights, inputs):
            return scheme
    from quant.formats.table import refusal  # here, so that the names of schemes need no torch

    reason = refusal(weights, inputs)
    if reason is not None:
        raise RecipeError(f"{where}.{reason}")
    return replace(unnamed := Scheme("", weights, inputs), name=_spelled_name(unnamed, weights, inputs))


def _spelled_name(scheme: Scheme, weights: TensorFormat, inputs: TensorFormat | None) -> str:
    """Such as "INT8_CHANNEL_X_TENSOR" where weight and input are of the same numbers, else such as "W4A16_G64"."""
    if inputs is not None and scheme.same_numbers:
        kind = f"{'INT' if weights.type == 'int' else 'FP'}{weights.num_bits}"
        return f"{kind}_{weights.strategy}_x_{inputs.strategy}".upper()
    bits = "16" if inputs is None else f"{'FP' if inputs.type == 'float' else ''}{inputs.num_bits}"
    by = "CHANNEL" if weights.group_size is None else f"G{weights.group_size}"
    return f"W{weights.num_bits}A{bits}{'' if weights.symmetric else '_ASYM'}_{by}"


_FP8_TOKEN = TensorFormat(8, "float", "token", dynamic=True)
_INT8_TOKEN = TensorFormat(8, "int", "token", dynamic=True)
_INT4_GROUPS = TensorFormat(4, "int", "group", group_size=128)
SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme("FP8_DYNAMIC", TensorFormat(8, "float", "channel"), _FP8_TOKEN),
        Scheme("FP8", TensorFormat(8, "float", "tensor"), TensorFormat(8, "float", "tensor")),
        Scheme(
            "FP8_BLOCK",
            TensorFormat(8, "float", "block", block_structure=BLOCK),
            TensorFormat(8, "float", "group", dynamic=True, group_size=BLOCK[1]),
        ),
        Scheme("W8A8", TensorFormat(8, "int", "channel"), _INT8_TOKEN),
        Scheme("W8A16", TensorFormat(8, "int", "group", group_size=128)),
        Scheme("W4A16", _INT4_GROUPS),
        Scheme("W4A16_ASYM", TensorFormat(4, "int", "group", symmetric=False, group_size=128)),
        Scheme("W4A8", _INT4_GROUPS, _INT8_TOKEN),
        Scheme("W4AFP8", _INT4_GROUPS, _FP8_TOKEN),
        # A layer that is only sparse; on its own it names nothing to do.
        Scheme(UNQUANTIZED, None),
    )
}
_ALIASES = {"INT8": "W8A8"}
