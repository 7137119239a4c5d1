"""One layer's weight as some files have it: codes and scales, read as what they mean and as a checkpoint has them.

Below names and configs: it takes the tensors of a layer by their names in it, and the format that they are in.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch

from quant.checkpoint.reader import StoredTensor, read_rows
from quant.checkpoint.shards import DTYPE_NAMES, DTYPES, Coded, TensorPlan
from quant.errors import ModelError
from quant.formats.layer import LayerFormat
from quant.formats.packed import Packed
from quant.formats.table import format_of, misfit
from quant.formats.tensors import fault, reads_as, tensor_layout
from quant.pipelines.inputs.tensors import SourceTensor

REMEDY = "load the original in bf16, or write the weights out as what they mean"
#: Rows that no decoding begins within: blocks share scales, eight rows share a word of zero points.
_ROWS = 128


def leaf_of(name: str) -> str:
    """The last part of a tensor's name, such as "weight_scale"."""
    return name.rpartition(".")[2]


def weight_of(name: str, layer_format: LayerFormat, leaves: Mapping[str, StoredTensor]) -> SourceTensor:
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


def unpacked_weight_of(name: str, layer_format: LayerFormat, leaves: Mapping[str, StoredTensor]) -> SourceTensor:
    """As `weight_of`, of a layer whose codes lie one in a byte where a checkpoint of this library packs them.

    Raises:
        ModelError: as `weight_of`; zero points.
    """
    kind = format_of(layer_format)
    codes = leaves["weight"]
    if not isinstance(kind, Packed) or len(codes.shape) != 2 or codes.dtype != "I8" or "weight_zero_point" in leaves:
        raise ModelError(
            f"{codes.file}: tensor '{name}.weight' is {codes.dtype} {list(codes.shape)}: read here are symmetric codes "
            f"of 4 or 8 bits, one in a byte; {REMEDY}"
        )
    n, k = codes.shape
    reason = misfit(layer_format, n, k)
    if reason is not None:
        raise ModelError(f"{codes.file}: layer '{name}' [{n}, {k}]: {reason}; {REMEDY}")
    layout = tensor_layout(layer_format, n, k)
    scale = leaves["weight_scale"]
    dtype, shape = layout["weight_scale"]
    if scale.shape != shape or scale.dtype not in DTYPES or not reads_as(torch.float32, DTYPES[scale.dtype]):
        raise ModelError(
            f"{scale.file}: tensor '{name}.weight_scale' is {scale.dtype} {list(scale.shape)}, {layer_format.label} "
            f"has {list(shape)}; {REMEDY}"
        )
    words, size = layout[kind.main], torch.tensor([n, k], dtype=torch.int64)

    def packed(start: int, stop: int) -> torch.Tensor:
        read = read_rows(f"{name}.weight", codes, start, stop)
        most = 2 ** (kind.bits - 1)
        if int(read.min()) < -most or int(read.max()) >= most:
            raise ModelError(f"{codes.file}: tensor '{name}.weight' holds codes of more than {kind.bits} bits")
        return kind.pack(read)

    def decoded(start: int, stop: int) -> torch.Tensor:
        rows = kind.take_rows("weight_scale", _all(f"{name}.weight_scale", scale), [start, stop - start, n - stop], 1)
        shape_of_rows = torch.tensor([stop - start, k], dtype=torch.int64)
        return kind.decode({kind.main: packed(start, stop), "weight_scale": rows, "weight_shape": shape_of_rows})

    assert dtype is not None and words.dtype is not None
    check = partial(_check, f"{name}.weight_scale", scale.file, layer_format, n, k)
    tensors = {
        kind.main: TensorPlan(words.dtype, words.shape, packed),
        "weight_scale": TensorPlan(dtype, shape, partial(_rows, f"{name}.weight_scale", scale, dtype, shape), check),
        "weight_shape": TensorPlan(size.dtype, (2,), lambda start, stop: size[start:stop]),
    }
    return SourceTensor(codes.file, "F32", (n, k), decoded, scaled=True, coded=Coded(layer_format, tensors))


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
