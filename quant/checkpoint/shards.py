"""safetensors files written as a stream: the layout is planned from shapes, then one tensor at a time is in memory.

The library's own writer wants all tensors of a file at once. The format is 8 bytes of header length, a JSON header
and the raw tensors (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from quant.checkpoint.digests import METADATA, with_digest

WEIGHTS = "diffusion_pytorch_model"
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


@dataclass(frozen=True)
class TensorPlan:
    """A tensor before it exists: dtype, shape, and a function that makes it on the CPU."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    make: Callable[[], torch.Tensor]

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def plan_shards(tensors: Mapping[str, TensorPlan], max_bytes: int) -> list[list[str]]:
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


def write_shards(
    folder: Path,
    tensors: Mapping[str, TensorPlan],
    *,
    stem: str = WEIGHTS,
    max_bytes: int = 10 * 10**9,
    metadata: Mapping[str, str] = MappingProxyType({}),
    on_tensor: Callable[[str], None] = lambda name: None,
) -> dict[str, str]:
    """Writes tensors as one safetensors file, or several with an index as diffusers names them.

    Args:
        folder: exists.
        tensors: by name; each is made, written and dropped in turn.
        stem: file name without number and extension.
        max_bytes: largest size of a file's tensors.
        metadata: goes into the header of every file.
        on_tensor: called with each name after it is written.

    Returns:
        SHA-256 by file name, of the bytes as they were handed to the disk.
    """
    shards = plan_shards(tensors, max_bytes)
    count = len(shards)
    hashes: dict[str, str] = {}
    weight_map: dict[str, str] = {}
    for i, names in enumerate(shards):
        number = f"-{i + 1:05d}-of-{count:05d}" if count > 1 else ""
        file_name = f"{stem}{number}.safetensors"
        hashes[file_name] = _write_file(folder / file_name, {n: tensors[n] for n in names}, metadata, on_tensor)
        weight_map.update(dict.fromkeys(names, file_name))
    if count > 1:
        name, digest = write_index(folder, weight_map, sum(t.nbytes for t in tensors.values()), stem)
        hashes[name] = digest
    return hashes


def write_index(
    folder: Path, weight_map: Mapping[str, str], total_size: int | None = None, stem: str = WEIGHTS
) -> tuple[str, str]:
    """Writes the index of shards, tensor to file name; returns its own name and its SHA-256."""
    metadata = {} if total_size is None else {"total_size": total_size}
    text = json.dumps({"metadata": metadata, "weight_map": dict(weight_map)}, indent=2, sort_keys=True) + "\n"
    path = folder / f"{stem}.safetensors.index.json"
    path.write_text(text, encoding="utf-8")
    return path.name, hashlib.sha256(text.encode()).hexdigest()


def _write_file(
    path: Path, tensors: Mapping[str, TensorPlan], metadata: Mapping[str, str], on_tensor: Callable[[str], None]
) -> str:
    # Wide dtypes first: then every tensor starts at a multiple of its own size.
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))
    header: dict[str, Any] = {METADATA: {"format": "pt", **metadata}}
    offset = 0
    for name, tensor in ordered.items():
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
    text = json.dumps(with_digest(header), separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:

        def put(data: bytes | memoryview) -> None:
            file.write(data)
            digest.update(data)

        put(len(text).to_bytes(8, "little"))
        put(text)
        for name, planned in ordered.items():
            put(_made(name, planned))  # nothing holds it while the next one is made
            on_tensor(name)
    return digest.hexdigest()


def _made(name: str, planned: TensorPlan) -> memoryview:
    """The bytes of a tensor, row by row."""
    made = planned.make()
    if made.dtype != planned.dtype or tuple(made.shape) != planned.shape:
        raise AssertionError(f"{name}: planned {planned.dtype} {planned.shape}, made {made.dtype} {tuple(made.shape)}")
    return made.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
