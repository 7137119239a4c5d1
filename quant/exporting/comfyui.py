"""ComfyUI's files of quantized models: one safetensors file in the authors' names.

Where all layers are FP8 the file is `scaled_fp8`, which LightX2V and older releases read, too:

    X.weight  F8_E4M3 [N, K]   X.scale_weight  F32   X.scale_input  F32, of a static input   scaled_fp8  the file's mark

Else each layer has a note, JSON in bytes, and may be of another kind than its neighbour:

    X.weight   X.weight_scale   X.input_scale   X.comfy_quant  {"format": "float8_e4m3fn"}, or "int8_tensorwise"

FP8 weights have one scale; INT8 ones have one or one a row, [N, 1], and get a scale for each row of their input when
they run. Source: ComfyUI's `comfy/utils.py` (`convert_old_quants`), `comfy/ops.py` (`mixed_precision_ops`) and
`comfy/quant_ops.py`; comfy-kitchen's `tensor/int8.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from quant.checkpoint.shards import TensorPlan, copied
from quant.checkpoint.streaming import write_shards
from quant.exporting.base import Destination, scales_as_numbers
from quant.exporting.contents import CodedLayer, Contents
from quant.exporting.joining import in_original_names
from quant.formats.layer import LayerFormat

_FP8, _INT8 = "float8_e4m3fn", "int8_tensorwise"
#: Names in files of FP8 alone.
_OLD = {"weight": "weight", "weight_scale": "scale_weight", "input_scale": "scale_input"}
_MARK, _NOTE = "scaled_fp8", "comfy_quant"


class ComfyUI(Destination):
    """One file for the folder models/diffusion_models of ComfyUI."""

    name = "comfyui"
    summary = "one file for ComfyUI and LightX2V, authors' names: FP8 (recipe fp8-static), INT8 (scheme W8A8)"

    def refuses(self, layer_format: LayerFormat) -> str | None:
        if _kind(layer_format) is not None:
            return None
        return (
            "ComfyUI's layers are FP8 with one scale for the weight (scheme FP8, recipe fp8-static), or INT8 with "
            "inputs quantized as they come (scheme W8A8)"
        )

    def write(self, contents: Contents, work: Path, name: str, max_bytes: int) -> dict[str, str]:
        kinds = {_kind(layer.layer_format) for layer in contents.layers.values()}
        old = kinds == {_FP8}
        encoded = {layer_name: _encoded(layer, old) for layer_name, layer in contents.layers.items()}
        named = in_original_names(contents, encoded)
        tensors = dict(named.tensors)
        if old:
            tensors[_MARK] = _made(torch.zeros(1, dtype=torch.float8_e4m3fn))
        else:
            for layer_name, layer_format in named.layers.items():
                tensors[f"{layer_name}.{_NOTE}"] = _note(layer_format)
        return write_shards(
            work,
            [copied(key, plan) for key, plan in tensors.items()],
            stem=name,
            max_bytes=_all_bytes(tensors.values()),
        )


def _kind(layer_format: LayerFormat) -> str | None:
    """ComfyUI's name of a layer's format; None where it has none that means the same."""
    weights, inputs = layer_format.scheme.weights, layer_format.scheme.input_activations
    if weights is None or inputs is None or weights.num_bits != 8:
        return None
    if weights.type == "float" and weights.strategy == "tensor":
        return _FP8
    if weights.type == "int" and weights.strategy in ("tensor", "channel") and inputs.dynamic:
        return _INT8
    return None


def _encoded(layer: CodedLayer, old: bool) -> Mapping[str, TensorPlan]:
    found = scales_as_numbers(layer)
    return {_OLD[leaf]: plan for leaf, plan in found.items()} if old else found


def _note(layer_format: LayerFormat) -> TensorPlan:
    text = json.dumps({"format": _kind(layer_format)}).encode()
    return _made(torch.frombuffer(bytearray(text), dtype=torch.uint8))


def _made(tensor: torch.Tensor) -> TensorPlan:
    return TensorPlan(tensor.dtype, tuple(tensor.shape), lambda start, stop: tensor[start:stop])


def _all_bytes(plans: Iterable[TensorPlan]) -> int:
    """So many that there is one file."""
    return sum(plan.nbytes for plan in plans) + 1
