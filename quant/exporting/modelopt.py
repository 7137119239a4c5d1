"""FP8 as ModelOpt exports it of diffusers' models: its names of algorithms, scales without extra dimensions.

    FP8                         weight_scale and input_scale are numbers; a static range for inputs
    FP8_PER_CHANNEL_PER_TOKEN   weight_scale [N]; inputs get a scale a token when the model runs

Source: modelopt 0.47, `torch/export/unified_export_hf.py` and `convert_hf_config.py`; and as its readers describe it:
vLLM's `layers/quantization/modelopt.py` (both algorithms), SGLang's `multimodal_gen` `modelopt_fp8.py` (the first).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quant.checkpoint.shards import TensorPlan, copied
from quant.checkpoint.writing import write_component
from quant.errors import CheckpointError
from quant.exporting.base import Destination, scales_as_numbers, shaped, weights_by_layer
from quant.exporting.contents import CodedLayer, Contents
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES

_BITS: dict[str, Any] = {"num_bits": 8, "type": "float"}
#: By the name of our scheme: theirs, and the group that stands in the config.
_ALGORITHMS: dict[str, tuple[str, dict[str, Any]]] = {
    "FP8": ("FP8", {"weights": {**_BITS, "dynamic": False}, "input_activations": {**_BITS, "dynamic": False}}),
    "FP8_DYNAMIC": (
        "FP8_PER_CHANNEL_PER_TOKEN",
        {
            "weights": {**_BITS, "dynamic": False, "strategy": "channel"},
            "input_activations": {**_BITS, "dynamic": True, "strategy": "token"},
        },
    ),
}


class ModelOpt(Destination):
    """A component's folder in diffusers' names whose config.json names ModelOpt."""

    name = "modelopt"
    summary = "a folder for SGLang, vLLM-Omni and TensorRT-LLM, diffusers' names: schemes FP8 and FP8_DYNAMIC"

    def refuses(self, layer_format: LayerFormat) -> str | None:
        if _scheme(layer_format) is not None:
            return None
        return f"ModelOpt's layout is FP8, with schemes {' and '.join(_ALGORITHMS)}"

    def write(self, contents: Contents, work: Path, name: str, max_bytes: int) -> dict[str, str]:
        found = {_scheme(layer.layer_format): layer_name for layer_name, layer in contents.layers.items()}
        if len(found) > 1:
            pairs = " and ".join(f"'{layer}' {scheme}" for scheme, layer in found.items())
            raise CheckpointError(f"{contents.where}: has {pairs}; ModelOpt's layout has one scheme for all layers")
        algorithm, group = _ALGORITHMS[str(next(iter(found)))]
        quantization = {
            "quant_method": "modelopt",
            "quant_algo": algorithm,
            "config_groups": {"group_0": {**group, "targets": ["Linear"]}},
            "ignore": contents.kept,
            "producer": {"name": "quant-video"},
        }
        encoded = {layer_name: _encoded(layer) for layer_name, layer in contents.layers.items()}
        parts = [copied(key, plan) for key, plan in weights_by_layer(contents, encoded).items()]
        component = contents.component
        return write_component(work, component.config, quantization, parts, max_bytes=max_bytes, stem=component.stem)


def _scheme(layer_format: LayerFormat) -> str | None:
    """The name of the scheme, if weights and inputs are as one of ModelOpt's."""
    found = layer_format.scheme
    for name in _ALGORITHMS:
        if (SCHEMES[name].weights, SCHEMES[name].input_activations) == (found.weights, found.input_activations):
            return name
    return None


def _encoded(layer: CodedLayer) -> dict[str, TensorPlan]:
    found = scales_as_numbers(layer)
    if found["weight_scale"].shape:
        found["weight_scale"] = shaped(found["weight_scale"], layer.shape[:1])
    return found
