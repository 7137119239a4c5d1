"""Folders that llm-compressor, ModelOpt or this library has quantized: their weights, and the codes that mean them.

The weights are decoded where another scheme is asked for. Where the same is asked for, the codes are written as they
are (`quant.calibration.component`), so that nothing is rounded a second time. compressed-tensors' layout is this
library's own; ModelOpt's FP8 is it, too, under another config.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from quant.checkpoint.exports.compressed_tensors import CompressedTensors
from quant.checkpoint.exports.table import export_of, stored_layers
from quant.checkpoint.reader import StoredTensor, read_rows
from quant.checkpoint.shards import DTYPE_NAMES, DTYPES, Coded, TensorPlan
from quant.errors import CheckpointError, ModelError
from quant.files.json_files import read_object
from quant.formats.layer import LayerFormat
from quant.formats.scheme import BLOCK, SCHEMES, Scheme
from quant.formats.table import format_of, misfit
from quant.formats.tensors import fault, reads_as, tensor_layout
from quant.pipelines.inputs.scaled import REMEDY, leaf_of, meant
from quant.pipelines.inputs.tensors import SourceTensor, as_stored
from quant.text import shown

#: ModelOpt's config where it is a file of its own.
MODELOPT_FILE = "hf_quant_config.json"
_MODELOPT, _FP8 = "modelopt", "fp8"
#: ModelOpt's names of what is read here. The second has no static input: its inputs have a scale a token.
_ALGORITHMS = {"FP8": SCHEMES["FP8"], "FP8_PER_CHANNEL_PER_TOKEN": SCHEMES["FP8_DYNAMIC"]}
#: Rows that no decoding begins within: blocks share scales, eight rows share a word of zero points.
_ROWS = 128


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
    layers = _layers(quantization, names, where)
    weights: dict[str, SourceTensor] = {}
    for name in names:
        if name not in layers:
            raise ModelError(f"{where}: says nothing of '{name}', whose weights are codes; {REMEDY}")
        weights[f"{name}.weight"] = _weight(name, layers[name], by_layer[name])
    coded = {*names}
    rest = {key: each for key, each in stored.items() if _is_bias(key) or key.rpartition(".")[0] not in coded}
    return as_stored(rest) | weights


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


def _weight(name: str, layer_format: LayerFormat, leaves: Mapping[str, StoredTensor]) -> SourceTensor:
    """The weight that a layer's tensors mean, and the codes that they are.

    Args:
        name: of the layer, for errors.
        layer_format: what it is stored as.
        leaves: its tensors, by their names in it.
    """
    kind = format_of(layer_format)
    file = leaves["weight_scale"].file
    n, k = _size(name, layer_format, leaves)
    reason = misfit(layer_format, n, k)
    if reason is not None:
        raise ModelError(f"{file}: layer '{name}' [{n}, {k}]: {reason}; {REMEDY}")
    layout = tensor_layout(layer_format, n, k)
    odd = next((leaf for leaf in leaves if leaf not in (*layout, "input_scale", "bias")), None)
    if odd is not None:
        raise ModelError(f"{file}: holds '{name}.{odd}', which is not read here with codes; {REMEDY}")
    tensors = {}
    for leaf, (wanted, shape) in layout.items():
        key, dtype, found = f"{name}.{leaf}", wanted or torch.float32, leaves[leaf]
        # Others store one scale as a number, and one a row without a second dimension.
        alike = found.shape == shape or (leaf != kind.main and _squeezed(found.shape) == _squeezed(shape))
        # Scales in another float dtype decode as they are; `_rows` looks whether they can be written.
        wider = torch.float32 if dtype == torch.bfloat16 else dtype
        if not alike or found.dtype not in DTYPES or not reads_as(wider, DTYPES[found.dtype]):
            raise ModelError(
                f"{found.file}: tensor '{key}' is {found.dtype} {list(found.shape)}, {layer_format.label} needs "
                f"{DTYPE_NAMES[dtype]} {list(shape)}; {REMEDY}"
            )
        check = partial(_check, key, found.file, layer_format, n, k)
        tensors[leaf] = TensorPlan(dtype, shape, partial(_rows, key, found, dtype, shape), check)
    read = partial(_decode, name, layer_format, {leaf: leaves[leaf] for leaf in kind.layout(n, k)}, n, k)
    return SourceTensor(file, "F32", (n, k), read, scaled=True, coded=Coded(layer_format, tensors))


def _size(name: str, layer_format: LayerFormat, leaves: Mapping[str, StoredTensor]) -> tuple[int, ...]:
    """The shape of a layer's weight, whose tensors all are there."""
    kind, file = format_of(layer_format), leaves["weight_scale"].file
    # Which tensors a format has does not depend on the size.
    lacking = next((leaf for leaf in tensor_layout(layer_format, _ROWS, _ROWS) if leaf not in leaves), None)
    if lacking is not None:
        raise ModelError(f"{file}: has no tensor '{name}.{lacking}', which its scheme needs")
    shapes = {leaf: tensor.shape for leaf, tensor in leaves.items()}
    try:
        size = kind.size(name, shapes, lambda leaf: _all(f"{name}.{leaf}", leaves[leaf]))
    except ValueError as error:
        raise ModelError(f"{file}: {error}") from None
    if len(size) != 2:
        raise ModelError(
            f"{file}: tensor '{name}.{kind.main}' is {list(size)}, and codes of a Linear are [N, K]; {REMEDY}"
        )
    return size


def _squeezed(shape: tuple[int, ...]) -> list[int]:
    return [size for size in shape if size != 1]


def _all(name: str, stored: StoredTensor) -> torch.Tensor:
    return read_rows(name, stored, 0, stored.shape[0] if stored.shape else 1)


def _rows(
    name: str, stored: StoredTensor, dtype: torch.dtype, shape: tuple[int, ...], start: int, stop: int
) -> torch.Tensor:
    """Rows of a tensor as a checkpoint of this library has it. Raises ModelError for scales that its dtype has not."""
    if stored.shape == shape and DTYPES[stored.dtype] == dtype:
        return read_rows(name, stored, start, stop)
    read = _all(name, stored).reshape(shape)[start:stop]
    made = read.to(dtype)
    if bool(((made.to(read.dtype) != read) & ~read.isnan()).any()):
        kind = str(dtype).removeprefix("torch.")
        raise ModelError(
            f"{stored.file}: tensor '{name}' is {stored.dtype}, and {kind}, in which it would be written, has not all "
            "of its values; take another scheme, for which the weights are rounded a second time"
        )
    return made


def _check(name: str, file: Path, layer_format: LayerFormat, n: int, k: int, rows: torch.Tensor, start: int) -> None:
    wrong = fault(leaf_of(name), rows, layer_format, n, k)
    if wrong is not None:
        raise ModelError(f"{file}: tensor '{name}' {wrong}")


def _decode(
    name: str, layer_format: LayerFormat, stored: Mapping[str, StoredTensor], n: int, k: int, start: int, stop: int
) -> torch.Tensor:
    """Rows start to stop of the float32 weight that some of a layer's tensors mean."""
    kind, weights = format_of(layer_format), layer_format.scheme.weights
    layout = kind.layout(n, k)
    first = start - start % _ROWS
    tensors = {}
    for leaf, found in stored.items():
        if leaf == kind.main:
            tensors[leaf] = read_rows(f"{name}.{leaf}", found, first, stop)
            continue
        whole = _all(f"{name}.{leaf}", found).reshape(layout[leaf].shape)
        if leaf == "weight_scale" and weights is not None and weights.strategy == "tensor":
            tensors[leaf] = whole
        else:
            tensors[leaf] = kind.take_rows(leaf, whole, [first, stop - first, n - stop], 1)
    return kind.decode(tensors)[start - first :]
