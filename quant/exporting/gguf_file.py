"""Files in GGUF, version 3, written a piece of a tensor at a time.

    "GGUF"  version u32  number of tensors u64  number of entries u64
    an entry: its name, type u32, value       a name: its length u64, UTF-8
    a tensor: its name, number of dimensions u32, each u64 from the innermost, type u32, place u64
    zeros to a multiple of 32, then the tensors, each from a multiple of 32

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quant.checkpoint.shards import TensorPlan, raw_bytes

_ALIGNED = 32
_UINT32, _STRING = 4, 8
#: Numbers that ggml has for the types of tensors that are written here.
F32, Q4_0, Q8_0 = 0, 2, 8


@dataclass(frozen=True)
class GgufTensor:
    """A tensor of a file.

    Attributes:
        type: its number in ggml.
        shape: of its values, the outermost dimension first.
        plan: makes its bytes, row by row.
    """

    type: int
    shape: tuple[int, ...]
    plan: TensorPlan


def write_gguf(path: Path, tensors: Mapping[str, GgufTensor], entries: Mapping[str, str | int]) -> str:
    """Writes a file and returns its SHA-256.

    Args:
        path: of the file, which is not there.
        tensors: by name, in order.
        entries: what the file says of itself; numbers are stored as unsigned ones of 32 bits.

    Raises:
        QuantError: a tensor that cannot be made.
        OSError: the disk refuses.
    """
    digest = hashlib.sha256()
    with path.open("xb") as file:

        def put(data: bytes | memoryview) -> None:
            digest.update(data)
            file.write(data)

        put(_head(tensors, entries))
        for tensor in tensors.values():
            for start, stop in tensor.plan.pieces():
                put(raw_bytes(tensor.plan.checked(start, stop)))
            put(bytes(-tensor.plan.nbytes % _ALIGNED))
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _head(tensors: Mapping[str, GgufTensor], entries: Mapping[str, str | int]) -> bytes:
    made = bytearray(struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(entries)))
    for name, value in entries.items():
        made += _text(name)
        if isinstance(value, str):
            made += struct.pack("<I", _STRING) + _text(value)
        else:
            made += struct.pack("<II", _UINT32, value)
    place = 0
    for name, tensor in tensors.items():
        made += _text(name) + struct.pack("<I", len(tensor.shape))
        made += struct.pack(f"<{len(tensor.shape)}Q", *reversed(tensor.shape))
        made += struct.pack("<IQ", tensor.type, place)
        place += tensor.plan.nbytes + -tensor.plan.nbytes % _ALIGNED
    return bytes(made + bytes(-len(made) % _ALIGNED))


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data
