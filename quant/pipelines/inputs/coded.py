"""Folders that llm-compressor, ModelOpt or this library has quantized: their weights, and the codes that mean them.

The weights are decoded where another scheme is asked for. Where the same is asked for, the codes are written as they
are (`quant.calibration.component`), so that nothing is rounded a second time. compressed-tensors' layout is this
library's own; ModelOpt's FP8 is it, too, under another config.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from quant.checkpoint.exports.compressed_tensors import CompressedTensors
from quant.checkpoint.exports.table import export_of, stored_layers
from quant.checkpoint.reader import StoredTensor
from quant.errors import CheckpointError, ModelError
from quant.files.json_files import read_object
from quant.formats.layer import LayerFormat
from quant.formats.scheme import BLOCK, SCHEMES, Scheme
from quant.formats.table import format_of
from quant.pipelines.inputs.layer_codes import REMEDY, leaf_of, unpacked_weight_of, weight_of
from quant.pipelines.inputs.scaled import meant
from quant.pipelines.inputs.tensors import SourceTensor, as_stored
from quant.text import shown

#: ModelOpt's config where it is a file of its own.
MODELOPT_FILE = "hf_quant_config.json"
_MODELOPT, _FP8 = "modelopt", "fp8"
#: compressed-tensors' names of codes one in a byte, and several in a word.
_BYTES, _PACKED = "int-quantized", "pack-quantized"
#: ModelOpt's names of what is read here. The second has no static input: its inputs have a scale a token.
_ALGORITHMS = {"FP8": SCHEMES["FP8"], "FP8_PER_CHANNEL_PER_TOKEN": SCHEMES["FP8_DYNAMIC"]}


def quantization_in(folder: Path, config: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """What a folder says of how its weights are quantized; None where nothing does. Raises ModelError."""
    found = (config or {}).get("quantization_config")
    if found is None and (folder / MODELOPT_FILE).is_file():
        body = read_object(folder / MODELOPT_FILE, ModelError).get("quantization")
        found = {"quant_method": _MODELOPT, **body} if isinstance(body, Mapping) else body
    if found is not None and not isinstance(found, Mapping):
        raise ModelError(f"{folder}: its quantization must be a mapping, got {shown(found)}")
    return found


def is_read(quantization: object) -> bool:
    """Is this a quantization_config of a library whose codes are read here?"""
    if not isinstance(quantization, Mapping):
        return False
    return quantization.get("quant_method") in (CompressedTensors.name, _MODELOPT, _FP8)


def decoded(stored: Mapping[str, StoredTensor], quantization: Mapping[str, Any], where: str) -> dict[str, SourceTensor]:
    """The tensors that quantized files mean, and with each weight the codes that it is stored as.

    Args:
        stored: the tensors of the files.
        quantization: the config of what quantized them.
        where: the file it is from, for errors.

    Raises:
        ModelError: a method, a scheme or a tensor that is not read here, by name.
    """
    if _is_by_block(quantization, where):
        return meant(stored)
    by_layer: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in stored.items():
        layer, _, leaf = name.rpartition(".")
        by_layer.setdefault(layer, {})[leaf] = tensor
    names = [layer for layer, leaves in by_layer.items() if "weight_scale" in leaves]
    layers = _layers(_as_packed(quantization), names, where)
    weights: dict[str, SourceTensor] = {}
    for name in names:
        if name not in layers:
            raise ModelError(f"{where}: says nothing of '{name}', whose weights are codes; {REMEDY}")
        packs = format_of(layers[name]).main not in by_layer[name] and "weight" in by_layer[name]
        read = unpacked_weight_of if packs else weight_of
        weights[f"{name}.weight"] = read(name, layers[name], by_layer[name])
    coded = {*names}
    rest = {key: each for key, each in stored.items() if _is_bias(key) or key.rpartition(".")[0] not in coded}
    return as_stored(rest) | weights


def _as_packed(quantization: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same config where codes that lie one in a byte are named as those that are packed, which they become."""
    groups = quantization.get("config_groups")
    if not isinstance(groups, Mapping):
        return quantization
    general = quantization.get("format")
    changed = {
        key: {**group, "format": _PACKED} if _may_be_packed(group, general) else group for key, group in groups.items()
    }
    return {**quantization, "config_groups": changed}


def _may_be_packed(group: object, general: object) -> bool:
    """Are the weights of a group whole numbers of a scheme that is packed here, stored as bytes?"""
    weights = group.get("weights") if isinstance(group, Mapping) else None
    if not isinstance(group, Mapping) or not isinstance(weights, Mapping):
        return False
    narrow = weights.get("num_bits") == 4 or group.get("input_activations") is None
    return weights.get("type") == "int" and narrow and (group.get("format") or general) == _BYTES


def _is_bias(name: str) -> bool:
    return leaf_of(name) == "bias"


def _mappings(values: Iterable[Any]) -> list[Mapping[str, Any]]:
    """Those values that are mappings; `stored_layers` names what else stands in their place."""
    return [value for value in values if isinstance(value, Mapping)]


def _is_by_block(quantization: Mapping[str, Any], where: str) -> bool:
    """Are weights FP8 codes with a scale for each block, which no layer runs and `meant` reads? Raises ModelError."""
    groups = quantization.get("config_groups")
    parts = [group.get("weights") for group in _mappings(groups.values() if isinstance(groups, Mapping) else ())]
    found = _mappings(parts)
    structures = [part.get("block_structure") for part in found if part.get("strategy") == "block"]
    if quantization.get("quant_method") == _FP8:
        structures = [quantization.get("weight_block_size") or list(BLOCK)]
    if not structures:
        return False
    other = next((each for each in structures if each != list(BLOCK)), None)
    if other is not None:
        raise ModelError(f"{where}: scales of blocks {shown(other)} are not read here, only of {list(BLOCK)}; {REMEDY}")
    if len(structures) < len(found) or quantization.get("transform_config"):
        raise ModelError(
            f"{where}: scales of blocks next to others, or of rotated weights, are not read here; {REMEDY}"
        )
    return True


def _layers(quantization: Mapping[str, Any], names: list[str], where: str) -> dict[str, LayerFormat]:
    """The formats of layers, by their names."""
    if quantization.get("quant_method") == _MODELOPT:
        algorithm = quantization.get("quant_algo")
        scheme: Scheme | None = _ALGORITHMS.get(algorithm) if isinstance(algorithm, str) else None
        if scheme is None:
            raise ModelError(
                f"{where}: ModelOpt's {shown(algorithm)} is not read here; those are {', '.join(_ALGORITHMS)}; {REMEDY}"
            )
        return dict.fromkeys(names, LayerFormat(scheme))
    try:
        sparse = export_of(quantization, where).sparse(quantization, where)
        layers = stored_layers(quantization, dict.fromkeys([*names, *sparse]), where)
    except CheckpointError as error:
        raise ModelError(f"{error}; {REMEDY}") from None
    odd = next((name for name in names if name in layers and not layers[name].is_plain), None)
    if odd is not None:
        raise ModelError(f"{where}: '{odd}' is smoothed or has a low-rank branch; {REMEDY}")
    return layers
