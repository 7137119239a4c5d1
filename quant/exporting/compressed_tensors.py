"""Plain compressed-tensors: what that library itself would write of the same layers, without anything of ours."""

from __future__ import annotations

from pathlib import Path

from quant.checkpoint.exports.compressed_tensors import CompressedTensors
from quant.checkpoint.shards import copied
from quant.checkpoint.writing import write_component
from quant.errors import CheckpointError
from quant.exporting.base import Destination, weights_by_layer
from quant.exporting.contents import Contents
from quant.formats.layer import LayerFormat
from quant.layers.t5_feed_forward import is_t5

#: What says that zeros of a dense weight are in a pattern: the weights are the same without it.
_SPARSITY = "sparsity_config"


class PlainCompressedTensors(Destination):
    """A component's folder in diffusers' names and compressed-tensors' schema, every scheme of this library."""

    name = "compressed-tensors"
    summary = "a folder for vLLM, SGLang, transformers and this program, diffusers' names: every scheme"

    def refuses(self, layer_format: LayerFormat) -> str | None:
        return None

    def write(self, contents: Contents, work: Path, name: str, max_bytes: int) -> dict[str, str]:
        packed = next((each for each, layer in contents.layers.items() if "weight" not in layer.tensors), None)
        if packed is not None and is_t5(contents.component.model):
            raise CheckpointError(
                f"{contents.where}: layer '{packed}' has packed codes, and transformers' T5 asks such layers for a "
                "weight; schemes with codes of 8 bits for inputs of 8, such as W8A8, can be exported"
            )
        method = CompressedTensors()
        layers = {layer_name: layer.layer_format for layer_name, layer in contents.layers.items()}
        config = {key: value for key, value in method.config(layers, contents.kept).items() if key != _SPARSITY}
        encoded = {layer_name: layer.tensors for layer_name, layer in contents.layers.items()}
        parts = [copied(key, plan) for key, plan in weights_by_layer(contents, encoded).items()]
        component = contents.component
        quantization = {"quant_method": method.name, **config}
        return write_component(work, component.config, quantization, parts, max_bytes=max_bytes, stem=component.stem)
