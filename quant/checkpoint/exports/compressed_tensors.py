"""compressed-tensors' schema, in which vLLM, SGLang and transformers read a quantization_config.

A checkpoint claims that name only where that library reads the same weights. A smoothed layer's input has to be
multiplied by its `pre_quant_scale`, which no stock reader does, so such a checkpoint has the same config under the name
`quant` (`quant.checkpoint.exports.ours`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from quant.checkpoint.exports import convolutions, precise_steps
from quant.checkpoint.exports.base import Export
from quant.errors import CheckpointError, RecipeError
from quant.formats.layer import SPARSITY, LayerFormat
from quant.formats.scheme import SCHEMES, UNQUANTIZED, Scheme, TensorFormat
from quant.formats.table import file_formats, unrunnable
from quant.patterns import check_pattern, matches
from quant.text import shown


class CompressedTensors(Export):
    """Checkpoints that compressed-tensors reads."""

    name = "compressed-tensors"
    versioned = False

    def takes(self, layers: Mapping[str, LayerFormat], *, standard: bool) -> bool:
        return standard and all(each.is_plain for each in layers.values())

    def config(self, layers: Mapping[str, LayerFormat], kept: Iterable[str]) -> dict[str, Any]:
        by_scheme: dict[Scheme, list[str]] = {}
        linears = {name: layer for name, layer in layers.items() if not layer.kernel_size}
        for name, layer in linears.items():
            if layer.scheme.weights is not None:
                by_scheme.setdefault(layer.scheme, []).append(name)
        only_sparse = [name for name, layer in linears.items() if layer.scheme.weights is None]
        windows = convolutions.entry(layers)
        # One scheme: the class and its exceptions, as everyone writes it. Several: exact names, because readers
        # differ in which of two matching groups wins.
        single = len(by_scheme) == 1
        config: dict[str, Any] = {
            "format": _format({*by_scheme, *(each.scheme for each in layers.values() if each.scheme.weights)}),
            "quantization_status": "compressed",
            "config_groups": {
                f"group_{i}": {"targets": ["Linear"] if single else names, **scheme.to_dict()}
                for i, (scheme, names) in enumerate(by_scheme.items())
            },
            # A layer that is only sparse is dense to everyone else; a convolution is no Linear, and has its own entry.
            "ignore": [*kept, *only_sparse, *(name for name, layer in layers.items() if layer.kernel_size)],
        }
        if windows:
            config[convolutions.KEY] = windows
        sparse = [name for name, layer in layers.items() if layer.sparse]
        if sparse:
            config["sparsity_config"] = {"format": "dense", "sparsity_structure": SPARSITY, "targets": sparse}
        smoothed = [name for name, layer in layers.items() if layer.smoothed]
        if smoothed:
            config["smoothed"] = smoothed
        ranks = {name: layer.rank for name, layer in layers.items() if layer.rank}
        if ranks:
            config["low_rank"] = ranks
        bins = {name: layer.bins for name, layer in layers.items() if layer.bins > 1}
        if bins:
            config["input_bins"] = bins
        return {**config, **precise_steps.entries(layers)}

    def layers(self, config: Mapping[str, Any], linears: Iterable[str], where: str) -> dict[str, LayerFormat]:
        names = list(linears)
        sparse = set(self.sparse(config, where))
        schemes = [
            (
                _patterns(group, "targets", f"{where}: config_groups.{key}."),
                _scheme(group, key, where, config.get("format")),
            )
            for key, group in _groups(config, sparse, where)
        ]
        windows = _convolutions(config, where)
        smoothed = set(_patterns(config, "smoothed", f"{where}: "))
        ranks = _numbers(config, "low_rank", "ranks", 1, where)
        bins = _numbers(config, "input_bins", "numbers of bins", 2, where)
        ignore = self.kept(config, where)
        if config.get("transform_config"):
            raise CheckpointError(f"{where}: transform_config: weights that were rotated are not read here")
        stored = {}
        for name in names:
            ignored = _any_matches(ignore, name, where)
            found = (s for targets, s in schemes if _any_matches(targets, name, where))
            scheme = None if ignored else next(found, None)
            if scheme is None and name in sparse:
                scheme = SCHEMES[UNQUANTIZED]
            if scheme is not None:
                stored[name] = LayerFormat(scheme, name in smoothed, name in sparse, ranks.get(name, 0))
        for name, (scheme, kernel_size) in windows.items():
            stored[name] = LayerFormat(scheme, name in smoothed, name in sparse, ranks.get(name, 0), kernel_size)
        steps = precise_steps.read(config, where)
        stored = {
            name: replace(layer_format, bins=bins.get(name, 1), steps=steps.get(name))
            for name, layer_format in stored.items()
        }
        lists = (
            ("smoothed", smoothed),
            ("sparse", sparse),
            ("low_rank", set(ranks)),
            ("input_bins", set(bins)),
            (precise_steps.KEY, set(steps)),
        )
        for what, listed in lists:
            absent = sorted(listed - set(stored))
            if absent:
                name = shown(absent[0])
                raise CheckpointError(f"{where}: {name} is listed as {what} but is no quantized layer of the model")
        for name, layer_format in stored.items():
            reason = unrunnable(layer_format)
            if reason is not None:
                raise CheckpointError(f"{where}: '{name}': {reason}")
        if not stored:
            raise CheckpointError(f"{where}: its groups match no layer of this model; is it another model's?")
        return stored

    def kept(self, config: Mapping[str, Any], where: str) -> list[str]:
        return _patterns(config, "ignore", f"{where}: ")

    def sparse(self, config: Mapping[str, Any], where: str) -> list[str]:
        found = config.get("sparsity_config")
        if found is None or found == {}:  # llm-compressor writes an empty one
            return []
        place = f"{where}: sparsity_config"
        if not isinstance(found, Mapping):
            raise CheckpointError(f"{place}: must be a mapping, got {shown(found)}")
        for key, value in (("format", "dense"), ("sparsity_structure", SPARSITY)):
            if found.get(key) != value:
                raise CheckpointError(f"{place}.{key}: is {shown(found.get(key))}; this release reads '{value}'")
        return _patterns(found, "targets", f"{place}.")


def _any_matches(patterns: Iterable[str], name: str, where: str) -> bool:
    try:
        return any(matches(pattern, name, ("Linear",)) for pattern in patterns)
    except RecipeError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _groups(config: Mapping[str, Any], sparse: Iterable[str], where: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    groups = config.get("config_groups")
    if not isinstance(groups, Mapping) or not (groups or sparse or config.get(convolutions.KEY)):
        raise CheckpointError(f"{where}: config_groups is missing or empty")
    for key, group in groups.items():
        if not isinstance(group, Mapping):
            raise CheckpointError(f"{where}: config_groups.{key}: must be a mapping, got {shown(group)}")
        if group.get("output_activations") is not None:
            raise CheckpointError(f"{where}: config_groups.{key}: quantized outputs are not supported")
    return groups.items()


def _convolutions(config: Mapping[str, Any], where: str) -> dict[str, tuple[Scheme, tuple[int, ...]]]:
    """Scheme and size of the window of every convolution that a config lists."""
    found = {}
    for key, group in convolutions.groups(config, where):
        general = group.get("format")
        scheme = _scheme(group, key, where, general) if "weights" in group else SCHEMES[UNQUANTIZED]
        found.update({name: (scheme, size) for name, size in convolutions.targets(group, key, where).items()})
    return found


def _format(schemes: set[Scheme]) -> str:
    """The layout in the files of all layers, in compressed-tensors' words."""
    return "dense" if not schemes else next(iter(schemes)).format if len(schemes) == 1 else "mixed-precision"


def _numbers(config: Mapping[str, Any], key: str, what: str, least: int, where: str) -> dict[str, int]:
    """Whole numbers by layer: ranks of low-rank branches, and how many bins static inputs have."""
    found = config.get(key, {})
    if not isinstance(found, Mapping):
        raise CheckpointError(f"{where}: {key}: must be a mapping of layers to {what}, got {shown(found)}")
    for name, number in found.items():
        if type(number) is not int or number < least:
            wanted = f"must be a whole number of at least {least}"
            raise CheckpointError(f"{where}: {key}.{name}: {wanted}, got {shown(number)}")
    return dict(found)


def _patterns(fields: Mapping[str, Any], key: str, where: str) -> list[str]:
    """A list of layer patterns; null and absent mean none."""
    value = fields.get(key)
    if not isinstance(value, list | None):
        raise CheckpointError(f"{where}{key}: must be a list of layers, got {shown(value)}")
    try:
        return [check_pattern(pattern, f"{where}{key}") for pattern in value or []]
    except RecipeError as error:
        raise CheckpointError(str(error)) from None


def _scheme(group: Mapping[str, Any], key: str, where: str, general: object) -> Scheme:
    """The scheme of a group, whose layout in the file is its own or the general one of the config."""
    place = f"{where}: config_groups.{key}"
    parts = {name: group.get(name) for name in ("weights", "input_activations")}
    try:
        # Through TensorFormat first: other writers spell out every default.
        tensor_formats = {
            name: TensorFormat.from_dict(part, f"{place}.{name}", of_file=True).to_dict()
            for name, part in parts.items()
            if isinstance(part, Mapping)
        }
        scheme = Scheme.parse(tensor_formats, place)
    except RecipeError as error:
        raise CheckpointError(str(error)) from None
    layout = group.get("format") or general
    if layout not in (None, "mixed-precision", *file_formats(scheme)):
        raise CheckpointError(
            f"{place}: stores {scheme.name} as {shown(layout)}, which is not read here; it would have to be "
            f"'{scheme.format}'. quant convert packs codes that lie one in a byte"
        )
    return scheme
