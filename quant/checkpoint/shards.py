"""safetensors files before they are written: which tensors go into which file, and where in it.

The format is 8 bytes of header length, a JSON header and the raw tensors
(https://github.com/huggingface/safetensors#format). The library's own writer wants all tensors of a file at once; here
the layout is planned from dtypes and shapes, so that any number of threads can fill it, a piece at a time.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quant.checkpoint.digests import METADATA, with_digest
from quant.formats.layer import LayerFormat

WEIGHTS = "diffusion_pytorch_model"
#: The same as transformers names them.
TRANSFORMERS_WEIGHTS = "model"
DTYPE_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.complex64: "C64",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

DTYPES = {name: dtype for dtype, name in DTYPE_NAMES.items()}
#: Where the first tensor of a file begins is a multiple of this: a processor's vectors read it alike, whatever the
#: length of the header, so that a model's last bits do not depend on its metadata.
_ALIGNED = 64
#: Takes the next bytes of a tensor of the file, by name: tensors may come in turns, the rows of each in order.
Put = Callable[[str, torch.Tensor], None]
#: Bytes of a tensor that are read and worked on at once, and of rows that none is cut within: 128 share scales.
_PIECE, ROWS = 1 << 21, 128


@dataclass(frozen=True)
class FileTensor:
    """A tensor of a file before it exists."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class TensorPlan(FileTensor):
    """A tensor before it exists, and a function that makes rows of it.

    Attributes:
        rows: makes rows start to stop of the first dimension, on any device; of a tensor without dimensions, all of it.
        check: raises an error that names the tensor where rows, of which the first has the given number, are not all
            finite.
        coded: the same as the codes that a file holds it as; None where it holds none.
    """

    rows: Callable[[int, int], torch.Tensor]
    check: Callable[[torch.Tensor, int], None] = lambda rows, start: None
    coded: Coded | None = None

    def pieces(self) -> Iterator[tuple[int, int]]:
        """First and last row + 1 of each stretch of about 2 MB, whole multiples of 128 rows."""
        count = self.shape[0] if self.shape else 1
        row = self.nbytes // max(count, 1)
        step = max(_PIECE // max(row, 1) // ROWS, 1) * ROWS
        for start in range(0, count, step):
            yield start, min(start + step, count)

    def checked(self, start: int, stop: int) -> torch.Tensor:
        """Rows that are finite."""
        made = self.rows(start, stop)
        self.check(made, start)
        return made

    def whole(self) -> torch.Tensor:
        """All of it, checked."""
        return self.checked(0, self.shape[0] if self.shape else 1)


@dataclass(frozen=True)
class Coded:
    """A layer's weight as codes, which are there before anything is rounded.

    Attributes:
        layer_format: what it is stored as.
        tensors: by their names in the layer, of the dtypes and shapes that a checkpoint of this library has.
    """

    layer_format: LayerFormat
    tensors: Mapping[str, TensorPlan]

    def serves(self, wanted: LayerFormat) -> bool:
        """Are its codes those of a layer in a wanted format? Its input may be quantized in another way."""
        found = self.layer_format
        if not wanted.is_plain or (wanted.scheme.weights, wanted.sparse) != (found.scheme.weights, found.sparse):
            return False
        return not wanted.scheme.has_static_input or "input_scale" in self.tensors


@dataclass(frozen=True)
class Part:
    """Tensors of a file that are made together, by one thread.

    Attributes:
        tensors: by name.
        make: gives every byte of each to the function it is called with.
    """

    tensors: Mapping[str, FileTensor]
    make: Callable[[Put], None]


def copied(name: str, tensor: TensorPlan) -> Part:
    """The part of one tensor that is written as it is made."""

    def make(put: Put) -> None:
        for start, stop in tensor.pieces():
            put(name, tensor.checked(start, stop))

    return Part({name: tensor}, make)


def plan_shards(tensors: Mapping[str, FileTensor], max_bytes: int) -> list[list[str]]:
    """Names per file, in order, no file above `max_bytes` unless one tensor alone is."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += tensor.nbytes
    return shards


def shard_names(count: int, stem: str) -> list[str]:
    """File names of so many shards, as diffusers numbers them; one alone has no number."""
    return [f"{stem}{f'-{i + 1:05d}-of-{count:05d}' if count > 1 else ''}.safetensors" for i in range(count)]


def file_header(tensors: Mapping[str, FileTensor], metadata: Mapping[str, str]) -> tuple[bytes, dict[str, int]]:
    """The bytes before the first tensor of a file, and where each tensor begins, from the file's start, in file order.

    Args:
        tensors: of the file.
        metadata: of the file, besides its own digest.
    """
    # Wide dtypes first: then every tensor starts at a multiple of its own size.
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))
    header: dict[str, Any] = {METADATA: {"format": "pt", **metadata}}
    places: dict[str, int] = {}
    offset = 0
    for name, tensor in ordered.items():
        places[name] = offset
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(with_digest(header), separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNED)
    head = len(text).to_bytes(8, "little") + text
    return head, {name: len(head) + place for name, place in places.items()}


def write_index(
    folder: Path, weight_map: Mapping[str, str], total_size: int | None = None, stem: str = WEIGHTS
) -> tuple[str, str]:
    """Writes the index of shards, tensor to file name; returns its own name and its SHA-256."""
    metadata = {} if total_size is None else {"total_size": total_size}
    text = json.dumps({"metadata": metadata, "weight_map": dict(weight_map)}, indent=2, sort_keys=True) + "\n"
    path = folder / f"{stem}.safetensors.index.json"
    path.write_text(text, encoding="utf-8")
    return path.name, hashlib.sha256(text.encode()).hexdigest()


def raw_bytes(tensor: torch.Tensor) -> memoryview:
    """The bytes of a tensor, row by row."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def named(parts: Sequence[Part]) -> dict[str, FileTensor]:
    """All tensors of some parts, in order."""
    return {name: tensor for part in parts for name, tensor in part.tensors.items()}
