"""GGUF: codes of whole numbers in blocks of 32 columns, each block with its scale in float16; inputs as they come.

    Q8_0  34 bytes: scale, 32 codes of 8 bits            value = scale * code
    Q4_0  18 bytes: scale, codes + 8 of 4 bits; byte j holds code j in its lower half, code j + 16 in its upper one

A larger group's scale is repeated for each of its blocks. A scale that float16 does not hold exactly is refused: the
file would be another model. Those of 4-bit weights are bfloat16, whose 8 bits float16 has where they are not too small.
Everything else is float32, which every reader takes. Source: ggml's `ggml-common.h` and `ggml-quants.c`.
"""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import torch

from quant.checkpoint.shards import TensorPlan
from quant.errors import CheckpointError, QuantWarning
from quant.exporting.base import Destination
from quant.exporting.contents import CodedLayer, Contents
from quant.exporting.gguf_file import F32, Q4_0, Q8_0, GgufTensor, write_gguf
from quant.exporting.joining import in_original_names
from quant.formats.layer import LayerFormat
from quant.formats.packed import Packed
from quant.formats.table import format_of

_BLOCK = 32
#: Bytes of a block's codes, by type.
_BYTES = {Q8_0: 32, Q4_0: 16}
_VERSION = 2  # of quantized types, as ggml counts them


class Gguf(Destination):
    """One file, for ComfyUI-GGUF and diffusers."""

    name = "gguf"
    summary = "one file for ComfyUI-GGUF and diffusers, authors' names: Q4_0 (scheme W4A16), Q8_0 of short scales"

    def refuses(self, layer_format: LayerFormat) -> str | None:
        if _type(layer_format) is not None:
            return None
        return "GGUF's Q4_0 and Q8_0 are symmetric whole numbers with scales for rows or groups: scheme W4A16"

    def write(self, contents: Contents, work: Path, name: str, max_bytes: int) -> dict[str, str]:
        for layer_name, layer in contents.layers.items():
            if layer.shape[1] % _BLOCK:
                raise CheckpointError(
                    f"{contents.where}: layer '{layer_name}' {list(layer.shape)}: GGUF has blocks of {_BLOCK} columns; "
                    "keep such layers with `ignore`"
                )
        if any(layer.layer_format.scheme.input_activations is not None for layer in contents.layers.values()):
            warnings.warn(
                f"{contents.where}: quantizes inputs, too; GGUF holds weights only, and inputs stay as they come there",
                QuantWarning,
                stacklevel=3,
            )
        encoded = {
            layer_name: {"weight": _blocks(f"{contents.where}: layer '{layer_name}'", layer)}
            for layer_name, layer in contents.layers.items()
        }
        named = in_original_names(contents, encoded)
        tensors = {}
        for key, plan in named.tensors.items():
            layer_format = named.layers.get(key.removesuffix(".weight")) if key.endswith(".weight") else None
            kind = None if layer_format is None else _type(layer_format)
            if kind is None:
                wide = TensorPlan(torch.float32, plan.shape, partial(_widened, plan))
                tensors[key] = GgufTensor(F32, plan.shape, wide)
            else:
                columns = plan.shape[1] // (2 + _BYTES[kind]) * _BLOCK
                tensors[key] = GgufTensor(kind, (plan.shape[0], columns), plan)
        entries: dict[str, str | int] = {
            "general.architecture": named.backwards.architecture,
            "general.quantization_version": _VERSION,
        }
        file = f"{name}.gguf"
        return {file: write_gguf(work / file, tensors, entries)}


def _type(layer_format: LayerFormat) -> int | None:
    """The type of blocks that hold a layer's weight; None where none does."""
    weights = layer_format.scheme.weights
    if weights is None or weights.type != "int" or not weights.symmetric or weights.strategy == "block":
        return None
    return {8: Q8_0, 4: Q4_0}.get(weights.num_bits)


def _blocks(where: str, layer: CodedLayer) -> TensorPlan:
    """The bytes of a weight's rows, uint8."""
    kind = _type(layer.layer_format)
    assert kind is not None
    n, k = layer.shape
    shape = (n, k // _BLOCK * (2 + _BYTES[kind]))
    return TensorPlan(torch.uint8, shape, partial(_rows, where, layer, kind))


def _rows(where: str, layer: CodedLayer, kind: int, start: int, stop: int) -> torch.Tensor:
    form = format_of(layer.layer_format)
    k, rows = layer.shape[1], stop - start
    codes = layer.tensors[form.main].checked(start, stop)
    if isinstance(form, Packed):
        codes = form.unpack(codes, k)
    found = layer.tensors["weight_scale"]
    scales = found.checked(start, stop) if found.shape[0] == layer.shape[0] else found.whole().expand(rows)
    scales = scales.reshape(rows, -1).repeat_interleave(k // _BLOCK // scales.reshape(rows, -1).shape[1], dim=1)
    short = scales.half()
    if not torch.equal(short.float(), scales.float()):
        raise CheckpointError(
            f"{where}: its scales are {str(scales.dtype).removeprefix('torch.')} and not exact in float16, which GGUF "
            "has: scheme W4A16 has scales in bfloat16, most of which are"
        )
    blocks = codes.reshape(rows, k // _BLOCK, _BLOCK)
    if kind == Q4_0:
        nibbles = (blocks + 8).view(torch.uint8)
        data = nibbles[..., : _BLOCK // 2] | nibbles[..., _BLOCK // 2 :] << 4
    else:
        data = blocks.view(torch.uint8)
    return torch.cat([short.unsqueeze(-1).view(torch.uint8), data], dim=-1).reshape(rows, -1)


def _widened(plan: TensorPlan, start: int, stop: int) -> torch.Tensor:
    return plan.checked(start, stop).float()
