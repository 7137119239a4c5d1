"""Plain compressed-tensors: what that library itself would write of the same layers, without anything of ours."""

from __future__ import annotations

from pathlib import Path

from quant.checkpoint.exports.compressed_tensors import CompressedTensors
from quant.checkpoint.shards import copied
from quant.checkpoint.writing import write_component
from quant.exporting.base import Destination, weights_by_layer
from quant.exporting.contents import Contents
from quant.formats.layer import LayerFormat

#: What says that zeros of a dense weight are in a pattern: the weights are the same without it.
_SPARSITY = "sparsity_config"


class PlainCompressedTensors(Destination):
    """A component's folder in diffusers' names and compressed-tensors' schema, every scheme of this library."""

    name = "compressed-tensors"
    summary = "any scheme, for vLLM, SGLang and transformers; diffusers' names, no entries of this program"

    def refuses(self, layer_format: LayerFormat) -> str | None:
        return None

    def write(self, contents: Contents, work: Path, name: str, max_bytes: int) -> dict[str, str]:
        method = CompressedTensors()
        layers = {layer_name: layer.layer_format for layer_name, layer in contents.layers.items()}
        config = {key: value for key, value in method.config(layers, contents.kept).items() if key != _SPARSITY}
        encoded = {layer_name: layer.tensors for layer_name, layer in contents.layers.items()}
        parts = [copied(key, plan) for key, plan in weights_by_layer(contents, encoded).items()]
        component = contents.component
        quantization = {"quant_method": method.name, **config}
        return write_component(work, component.config, quantization, parts, max_bytes=max_bytes, stem=component.stem)
