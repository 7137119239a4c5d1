"""`quant.inspect`: what a checkpoint holds, from its headers and manifest; no weight is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from quant.api.explain import kernels_of_layer
from quant.checkpoint.config import CONFIG_KEY
from quant.checkpoint.digests import check_config
from quant.checkpoint.exports.table import export_of
from quant.checkpoint.reader import StoredTensor, component_folders, read_config, stored_tensors
from quant.checkpoint.shards import DTYPE_NAMES
from quant.checkpoint.verifying import find_manifest
from quant.errors import CheckpointError
from quant.formats.layer import LayerFormat
from quant.formats.table import format_of
from quant.layers.fitting import check_tensor, layer_tensors
from quant.layers.from_tensors import layers_of_tensors, stored_size, tensors_of

_BYTES = {name: dtype.itemsize for dtype, name in DTYPE_NAMES.items()}
_TORCH_NAMES = {name: str(dtype).removeprefix("torch.") for dtype, name in DTYPE_NAMES.items()}
_BF16_BYTES = 2


@dataclass(frozen=True)
class Layer:
    """One layer of a checkpoint.

    Attributes:
        name: dotted name within its component.
        shape: of the weight.
        scheme: the scheme's name, None where it is not quantized.
        reason: why it is not, or why it is otherwise than the recipe and the keep lists let expect; empty where neither
            is so, or where the checkpoint does not say.
        bits_per_weight: all its tensors but the bias, in bits, over the weight's elements.
        nbytes: all its tensors.
        weight_error: ||W - W_stored|| / ||W|| as measured when it was made; None where that is not recorded.
        alpha: SmoothQuant's strength, None where it was not used.
        output_error: relative error of the layer's output over the calibration data, None where that was not taken.
        weight_dtype: of the weight as stored, torch's name.
        kernels: architecture to the implementation of the matmul that a GPU of it runs; empty where not quantized.
        layer_format: what it is made of; None where it is not quantized. `scheme` names it.
    """

    name: str
    shape: tuple[int, ...]
    scheme: str | None
    reason: str
    bits_per_weight: float
    nbytes: int
    weight_error: float | None = None
    alpha: float | None = None
    output_error: float | None = None
    weight_dtype: str = ""
    kernels: Mapping[str, str] = field(default_factory=dict)
    layer_format: LayerFormat | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, in which `scheme` stands for the format."""
        body = asdict(self)
        del body["layer_format"]
        return body


@dataclass(frozen=True)
class Component:
    """One quantized component.

    Attributes:
        name: "transformer"; empty where the folder is itself the component.
        quant_method, format: as its config.json says.
        layers: quantized ones, and those the checkpoint knows to be kept.
        nbytes: of all tensors, in and out of layers.
        bf16_nbytes: of the same model in bf16.
    """

    name: str
    quant_method: str
    format: str
    layers: tuple[Layer, ...]
    nbytes: int
    bf16_nbytes: int

    @property
    def compression(self) -> float:
        """How many times smaller than in bf16."""
        return self.bf16_nbytes / self.nbytes


@dataclass(frozen=True)
class Inspection:
    """A checkpoint: its components, and what it says about how it was made.

    Attributes:
        provenance: {} where there is no manifest.
        has_manifest: whether there are hashes that loading can compare the files with.
    """

    folder: Path
    components: tuple[Component, ...]
    provenance: Mapping[str, Any]
    has_manifest: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        components = [
            {**asdict(c), "layers": [layer.to_dict() for layer in c.layers], "compression": c.compression}
            for c in self.components
        ]
        return {
            "folder": str(self.folder),
            "components": components,
            "provenance": dict(self.provenance),
            "has_manifest": self.has_manifest,
        }


def inspect(folder: str | Path) -> Inspection:
    """Looks into a checkpoint folder.

    Raises:
        CheckpointError: no checkpoint, or one whose headers, config and manifest contradict each other; names the file.
    """
    folder = Path(folder)
    folders = component_folders(folder)
    manifests = {name: find_manifest(path) for name, path in folders.items()}
    components = tuple(
        _component(name, path, found.layers if (found := manifests[name]) is not None else ())
        for name, path in folders.items()
    )
    made = next((found.provenance for found in manifests.values() if found is not None), {})
    return Inspection(folder, components, made, all(found is not None for found in manifests.values()))


def _component(name: str, path: Path, records: Sequence[Mapping[str, Any]]) -> Component:
    config, where = read_config(path)[CONFIG_KEY], str(path / "config.json")
    tensors, export = stored_tensors(path), export_of(config, where)
    check_config(path, {tensor.file for tensor in tensors.values()})
    layer_formats = layers_of_tensors(config, tensors, where)
    known = {record["name"]: record for record in records}
    kept = [layer for layer in export.kept(config, where) if f"{layer}.weight" in tensors]
    layers = tuple(
        _layer(layer, path, tensors, layer_formats.get(layer), known.get(layer, {}))
        for layer in dict.fromkeys([*known, *layer_formats, *kept])
    )
    plain = sum(
        math.prod(tensor.shape)
        for key, tensor in tensors.items()
        if key.rpartition(".")[0] not in layer_formats or key.endswith(".bias")
    )
    plain *= _BF16_BYTES
    plain += sum(math.prod(layer.shape) for layer in layers if layer.name in layer_formats) * _BF16_BYTES
    return Component(
        name, config["quant_method"], str(config.get("format", "")), layers, _nbytes(tensors.values(), path), plain
    )


def _layer(
    name: str,
    path: Path,
    tensors: Mapping[str, StoredTensor],
    layer_format: LayerFormat | None,
    record: Mapping[str, Any],
) -> Layer:
    own = tensors_of(name, tensors)
    leaf = "weight" if layer_format is None else format_of(layer_format).main
    if leaf not in own:
        raise CheckpointError(f"{path}: has no tensor '{name}.{leaf}'; is a shard missing?")
    shape = own[leaf].shape if layer_format is None else _weight_shape(name, own, layer_format, path)
    stored = _nbytes((tensor for leaf, tensor in own.items() if leaf != "bias"), path)
    return Layer(
        name=name,
        shape=shape,
        scheme=None if layer_format is None else layer_format.label,
        reason=record.get("reason", ""),
        bits_per_weight=8 * stored / max(math.prod(shape), 1),
        nbytes=_nbytes(own.values(), path),
        weight_error=record.get("weight_error"),
        alpha=record.get("alpha"),
        output_error=record.get("output_error"),
        weight_dtype=_TORCH_NAMES.get(own[leaf].dtype, ""),
        kernels={} if layer_format is None else kernels_of_layer(layer_format, shape[0], shape[1]),
        layer_format=layer_format,
    )


def _weight_shape(name: str, own: Mapping[str, StoredTensor], layer_format: LayerFormat, path: Path) -> tuple[int, ...]:
    """Shape of a packed layer's weight, which the headers of all its tensors `own` bear out."""
    shape = stored_size(name, own, layer_format, path)
    needed = layer_tensors(name, layer_format, *shape)
    for leaf, spec in needed.items():
        if leaf not in own:
            raise CheckpointError(f"{path}: has no tensor '{name}.{leaf}'; is a shard missing?")
        check_tensor(f"{name}.{leaf}", spec, own[leaf])
    extra = next((leaf for leaf in own if leaf not in needed and leaf != "bias"), None)
    if extra is not None:
        raise CheckpointError(f"{path}: holds '{name}.{extra}', which the layer's config does not speak of")
    return shape


def _nbytes(tensors: Iterable[StoredTensor], path: Path) -> int:
    total = 0
    for tensor in tensors:
        if tensor.dtype not in _BYTES:
            raise CheckpointError(
                f"{path}: holds a tensor of the type {tensor.dtype}, which this library does not know"
            )
        total += math.prod(tensor.shape) * _BYTES[tensor.dtype]
    return total
