"""Weights that are stored as codes of 8 bits with scales next to them: read as what they mean, codes times scales.

This is a step below names: it takes tensors of files and gives tensors of a model, whatever the model calls them. Where
a scheme of this library is the same, the codes go with them, to be written as they are.

| written by | codes | scale | besides |
|---|---|---|---|
| ComfyUI, `scaled_fp8` | `X.weight` | `X.scale_weight`, one | `X.scale_input`, the mark `scaled_fp8` |
| ComfyUI, `comfy_quant` | `X.weight` | `X.weight_scale`, one or one a row | `X.comfy_quant` or metadata: JSON |
| LTX-2, ModelOpt, FP8 of others | `X.weight` | `X.weight_scale`, one, one a row or by block | `X.input_scale` |
| DeepSeek | `X.weight` | `X.weight_scale_inv`, by block of 128 x 128; a factor in spite of its name | |

Sources: ComfyUI's `comfy/utils.py` (`convert_old_quants`) and `comfy/ops.py` (`mixed_precision_ops`); DeepSeek-V3's
`inference/kernel.py` (`weight_dequant`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import torch

from quant.checkpoint.digests import read_metadata
from quant.checkpoint.reader import StoredTensor, read_rows
from quant.checkpoint.shards import DTYPES, Coded
from quant.errors import ModelError
from quant.files.json_files import parse_object
from quant.formats.layer import LayerFormat
from quant.formats.scheme import BLOCK, SCHEMES, Scheme, TensorFormat
from quant.pipelines.inputs.layer_codes import REMEDY, leaf_of, weight_of
from quant.pipelines.inputs.tensors import SourceTensor, as_stored
from quant.text import shown

#: Names of scales of `X.weight`, and of its input's.
_SCALES, _OF_INPUTS = ("scale_weight", "weight_scale", "weight_scale_inv"), ("scale_input", "input_scale")
#: A whole file's mark, and a layer's: JSON as bytes, or in the metadata of the file for all of its layers.
_MARK, _NOTE, _NOTES = "scaled_fp8", "comfy_quant", "_quantization_metadata"
#: What ComfyUI calls the codes that are read here, and their dtypes.
_FORMATS = {"float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "int8_tensorwise": "I8"}
#: What a note may say besides its format that leaves codes times scales what they are.
_WIDE = "full_precision_matrix_mult"
_HARMLESS = ("format", _WIDE, "per_channel")
_CODES = tuple(_FORMATS.values())
#: Dtypes of scales that a float32 holds.
_FLOATS = ("F32", "F16", "BF16")


def _by_token(kind: str, strategy: str) -> Scheme:
    weights, inputs = TensorFormat(8, kind, strategy), TensorFormat(8, kind, "token", dynamic=True)
    return Scheme.parse({"weights": weights.to_dict(), "input_activations": inputs.to_dict()})


#: The scheme of a layer by the dtype of its codes, by what a scale belongs to, and by whether its input has one.
_SCHEMES: dict[tuple[str, str, bool], Scheme] = {
    ("F8_E4M3", "one", True): SCHEMES["FP8"],
    ("F8_E4M3", "one", False): _by_token("float", "tensor"),
    ("F8_E4M3", "row", False): SCHEMES["FP8_DYNAMIC"],
    ("F8_E4M3", "block", False): SCHEMES["FP8_BLOCK"],
    ("I8", "one", False): _by_token("int", "tensor"),
    ("I8", "row", False): SCHEMES["W8A8"],
}


def meant(stored: Mapping[str, StoredTensor]) -> dict[str, SourceTensor]:
    """The tensors that files mean: their own, and codes times scales in the place of both.

    What belongs to other quantized weights stays as it is, for who knows the model's class.

    Raises:
        ModelError: names the file and the tensor: a scale without codes or of another shape, codes of a format that is
            not read here.
    """
    noted = _notes(stored)
    codes = {
        name: _as_noted(name, tensor, noted[name].dtype if name in noted else None) for name, tensor in stored.items()
    }
    scales: dict[str, str] = {}
    left: set[str] = set()
    for name, tensor in stored.items():
        leaf, weight = leaf_of(name), _weight_of(name)
        if leaf in _SCALES and weight in codes:
            _check_scale(name, tensor, weight, codes[weight])
            if weight in scales:
                raise ModelError(f"{tensor.file}: holds both '{scales[weight]}' and '{name}'; {REMEDY}")
            scales[weight] = name
            left.add(name)
        elif leaf == _NOTE:
            left.add(name)
    for weight in noted:
        if weight in codes and weight not in scales:
            raise ModelError(f"{codes[weight].file}: holds the codes '{weight}' without their scale; {REMEDY}")
    if scales:
        left.update(name for name, tensor in stored.items() if leaf_of(name) == _MARK and math.prod(tensor.shape) <= 2)
    left.update(name for name in stored if leaf_of(name) in _OF_INPUTS and _weight_of(name) in scales)
    kept = as_stored({name: tensor for name, tensor in codes.items() if name not in left})
    wide = _multiplied_in_16_bits(stored, noted)
    for weight, scale in scales.items():
        coded = None if weight in wide else _coded(weight, codes[weight], stored[scale], stored)
        kept[weight] = replace(_scaled(weight, codes[weight], scale, stored[scale]), coded=coded)
    return kept


def _weight_of(name: str) -> str:
    """The weight of the layer that a tensor belongs to."""
    return f"{name.removesuffix(leaf_of(name))}weight"


class _Note(NamedTuple):
    """What ComfyUI's note on a layer says: the dtype of its codes, and whether it multiplies in 16 bits."""

    dtype: str
    wide: bool


def _notes(stored: Mapping[str, StoredTensor]) -> dict[str, _Note]:
    """What ComfyUI's notes say, by the name of the weight."""
    notes: dict[str, _Note] = {}
    for file in dict.fromkeys(tensor.file for tensor in stored.values()):
        text = read_metadata(file).get(_NOTES)
        layers = {} if text is None else parse_object(text, f"{file}: {_NOTES}", ModelError).get("layers")
        if not isinstance(layers, dict):
            raise ModelError(f"{file}: {_NOTES}: 'layers' must be a mapping, got {shown(layers)}")
        notes.update(
            {f"{path}.weight": _read_note(f"{file}: the weights of '{path}'", note) for path, note in layers.items()}
        )
    for name, tensor in stored.items():
        if leaf_of(name) == _NOTE:
            notes[_weight_of(name)] = _read_note(f"{tensor.file}: '{_weight_of(name)}'", _note(name, tensor))
    return notes


def _note(name: str, tensor: StoredTensor) -> dict[str, Any]:
    where = f"{tensor.file}: '{name}'"
    if tensor.dtype != "U8" or len(tensor.shape) != 1:
        raise ModelError(f"{where}: must be JSON as U8 bytes, is {tensor.dtype} {list(tensor.shape)}")
    try:
        text = read_rows(name, tensor, 0, tensor.shape[0]).numpy().tobytes().decode()
    except UnicodeDecodeError as error:
        raise ModelError(f"{where}: damaged: {error}") from None
    return parse_object(text, where, ModelError)


def _read_note(where: str, note: Any) -> _Note:
    """What a note says. Raises ModelError for one that asks for more than codes times scales."""
    kind = note.get("format") if isinstance(note, dict) else note
    if not isinstance(kind, str) or kind not in _FORMATS:
        raise ModelError(
            f"{where}: is in ComfyUI's format {shown(kind)}; those read here are {', '.join(_FORMATS)}; {REMEDY}"
        )
    more = next((key for key, value in note.items() if value and key not in _HARMLESS), None)
    if more is not None:
        raise ModelError(
            f"{where}: is in ComfyUI's {kind} with {shown(more)} {shown(note[more])}, which is not read here; {REMEDY}"
        )
    return _Note(_FORMATS[kind], bool(note.get(_WIDE)))


def _as_noted(name: str, tensor: StoredTensor, dtype: str | None) -> StoredTensor:
    """A weight of the dtype that its note says: some writers store FP8 codes as bytes."""
    if dtype is None or tensor.dtype == dtype:
        return tensor
    if tensor.dtype != "U8":
        raise ModelError(f"{tensor.file}: tensor '{name}' is {tensor.dtype}, and its note says {dtype}; {REMEDY}")
    return replace(tensor, dtype=dtype)


def _check_scale(name: str, scale: StoredTensor, weight: str, codes: StoredTensor) -> None:
    """Raises ModelError unless a scale is that of codes that are read here."""
    if codes.dtype not in _CODES or scale.dtype not in DTYPES or not DTYPES[scale.dtype].is_floating_point:
        raise ModelError(
            f"{scale.file}: holds '{name}', {scale.dtype}, for '{weight}', {codes.dtype}; those read here are floats "
            f"for {', '.join(_CODES)}; {REMEDY}"
        )
    if DTYPES[scale.dtype].itemsize < 2 or _shape_for(codes.shape, scale.shape) is None:
        raise ModelError(
            f"{scale.file}: '{name}' is {scale.dtype} {list(scale.shape)}, and '{weight}' {list(codes.shape)}; a scale "
            f"of 16 or 32 bits is one, one for each row, or one for each {BLOCK[0]} x {BLOCK[1]}; {REMEDY}"
        )


def _shape_for(weight: tuple[int, ...], scale: tuple[int, ...]) -> str | None:
    """What a scale of some shape belongs to: "one" for all, each "row", each "block"; None where it does not fit."""
    if math.prod(scale) == 1:
        return "one"
    if weight and scale in ((weight[0],), (weight[0], *(1 for _ in weight[1:]))):
        return "row"
    if len(weight) == 2 and scale == (-(-weight[0] // BLOCK[0]), -(-weight[1] // BLOCK[1])):
        return "block"
    return None


def _multiplied_in_16_bits(stored: Mapping[str, StoredTensor], noted: Mapping[str, _Note]) -> set[str]:
    """Weights of layers whose inputs stay in 16 bits, which are in no scheme of FP8 or INT8 here.

    Two elements in the mark of a file of ComfyUI say so of all its layers.
    """
    found = {weight for weight, note in noted.items() if note.wide}
    for name, tensor in stored.items():
        if leaf_of(name) == _MARK and math.prod(tensor.shape) == 2:
            found |= {_weight_of(each) for each in stored if leaf_of(each) in _SCALES}
    return found


def _coded(weight: str, codes: StoredTensor, scale: StoredTensor, stored: Mapping[str, StoredTensor]) -> Coded | None:
    """The codes of a layer as a checkpoint of this library has them; None where it has no such scheme."""
    names = (weight.removesuffix("weight") + leaf for leaf in _OF_INPUTS)
    given = next((stored[name] for name in names if name in stored and math.prod(stored[name].shape) == 1), None)
    kind = _shape_for(codes.shape, scale.shape)
    scheme = _SCHEMES.get((codes.dtype, str(kind), given is not None))
    if scheme is None or len(codes.shape) != 2 or any(each.dtype not in _FLOATS for each in (scale, given or scale)):
        return None
    leaves = {"weight": codes, "weight_scale": scale}
    if given is not None and scheme.has_static_input:
        leaves["input_scale"] = given
    return weight_of(weight.removesuffix(".weight"), LayerFormat(scheme), leaves).coded


def _scaled(weight: str, codes: StoredTensor, name: str, scale: StoredTensor) -> SourceTensor:
    rows = partial(_read, weight, codes, name, scale)
    return SourceTensor(codes.file, "F32", codes.shape, rows, scaled=True)


def _read(weight: str, codes: StoredTensor, name: str, scale: StoredTensor, start: int, stop: int) -> torch.Tensor:
    """Rows of codes times scales, float32."""
    values = read_rows(weight, codes, start, stop).float()
    match _shape_for(codes.shape, scale.shape):
        case "row":
            return values.mul_(read_rows(name, scale, start, stop).float().reshape(-1, *(1 for _ in codes.shape[1:])))
        case "block":
            first = start // BLOCK[0]
            blocks = read_rows(name, scale, first, -(-stop // BLOCK[0])).float()
            spread = blocks.repeat_interleave(BLOCK[1], 1)[:, : codes.shape[1]]
            return values.mul_(spread[torch.arange(start, stop) // BLOCK[0] - first])
        case _:
            count = scale.shape[0] if scale.shape else 1
            return values.mul_(read_rows(name, scale, 0, count).float().reshape(()))
