"""What is in a checkpoint that is exported: quantized layers as codes and scales, and all other tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from quant.checkpoint.config import quantization_of, stored_dtype
from quant.checkpoint.exports.table import export_of, quant_methods, stored_layers
from quant.checkpoint.reader import headers, most_stored
from quant.checkpoint.shards import DTYPES, TensorPlan
from quant.errors import CheckpointError, ModelError
from quant.files.json_files import read_object
from quant.formats.layer import LayerFormat
from quant.pipelines.inputs.base import Component
from quant.pipelines.inputs.configs import CONFIG
from quant.pipelines.inputs.table import open_files
from quant.pipelines.weights import source_tensors


@dataclass(frozen=True)
class CodedLayer:
    """A quantized layer as it is stored.

    Attributes:
        layer_format: what it is stored as.
        shape: of its weight [N, K].
        tensors: codes and scales by their names in the layer, of the dtypes and shapes that a checkpoint of this
            library has.
    """

    layer_format: LayerFormat
    shape: tuple[int, int]
    tensors: Mapping[str, TensorPlan]


@dataclass(frozen=True)
class Contents:
    """One component of a checkpoint.

    Attributes:
        where: its folder, for errors.
        component: its config and the model of its class, on the meta device.
        tensors: every tensor of that model in its order; of quantized weights what they mean.
        layers: the quantized layers by name.
    """

    where: Path
    component: Component
    tensors: Mapping[str, TensorPlan]
    layers: Mapping[str, CodedLayer]

    @property
    def kept(self) -> list[str]:
        """Names of the Linears that are not quantized."""
        modules = self.component.model.named_modules()
        return [name for name, module in modules if isinstance(module, nn.Linear) and name not in self.layers]

    def layer_of(self, name: str) -> str | None:
        """The layer whose weight a tensor is, if that is quantized."""
        layer, _, leaf = name.rpartition(".")
        return layer if leaf == "weight" and layer in self.layers else None


def contents_of(path: Path, config: str | Path | None = None) -> Contents:
    """What a component's folder or a single file holds; no weight is read yet.

    Args:
        path: the folder or file.
        config: where the config.json of its class is, if not in the folder: a folder, or a hub id.

    Raises:
        QuantError: it is damaged, or of no class that is known; a layer that stands for more than codes and scales, by
            name, with a recipe that makes none; nothing in it is quantized.
    """
    where = str(path / CONFIG)
    body = read_object(path / CONFIG) if (path / CONFIG).is_file() else {}
    quantization = quantization_of(body, where) or {}
    if quantization.get("quant_method") in quant_methods():
        _check_plain(path, quantization)
    component = open_files(path, config)
    stored = source_tensors(path) if path.is_dir() else headers([path])
    floats = [each for each in stored.values() if each.dtype in DTYPES and DTYPES[each.dtype].is_floating_point]
    named = stored_dtype(quantization, where)
    dtype = getattr(torch, named) if named else most_stored(each for each in floats if DTYPES[each.dtype].itemsize > 1)
    if dtype is None:
        raise ModelError(f"{path}: holds nothing but codes")
    tensors = component.tensors(dtype)
    layers = {}
    for name, plan in tensors.items():
        if plan.coded is not None:
            n, k = plan.shape
            layer = name.removesuffix(".weight")
            layers[layer] = CodedLayer(plan.coded.layer_format, (n, k), plan.coded.tensors)
    if not layers:
        raise CheckpointError(
            f"{path}: no layer of it is quantized in a scheme of this program; quantize it first: quant convert, or "
            "quant calibrate"
        )
    return Contents(path, component, tensors, layers)


def _check_plain(folder: Path, quantization: Mapping[str, Any]) -> None:
    """Refuses layers that other programs would read wrongly, and convolutions, which their schemas do not have."""
    where = str(folder / CONFIG)
    scaled = [name.removesuffix(".weight_scale") for name in source_tensors(folder) if name.endswith(".weight_scale")]
    sparse = export_of(quantization, where).sparse(quantization, where)
    for name, layer in stored_layers(quantization, dict.fromkeys([*scaled, *sparse]), where).items():
        more = _more(layer)
        if more is not None:
            raise CheckpointError(
                f"{folder}: layer '{name}' {more}, which no other program reads; export what `quant convert --scheme "
                f"{layer.scheme.name}` or a recipe of Linears with `algorithm: gptq` makes of the same model"
            )


def _more(layer: LayerFormat) -> str | None:
    """What a layer has besides codes and scales of a Linear."""
    if layer.kernel_size:
        return "is a convolution"
    if layer.smoothed:
        return "is smoothed: its input is multiplied by `pre_quant_scale`"
    if layer.rank:
        return f"has a low-rank branch of rank {layer.rank}"
    if layer.bins > 1:
        return f"has {layer.bins} static ranges by timestep"
    return None if layer.steps is None else f"has {layer.steps.label}"
