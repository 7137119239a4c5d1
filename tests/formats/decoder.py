"""Decodes a quantized layer from the bytes of its file, in numpy: written from the layout, not from the code.

A safetensors file is 8 bytes of header length, a JSON header, and tensors. `weight` has int8 or e4m3 codes;
`weight_packed` int32 words of 8 codes of four bits (of 4 of eight), the first in the lowest bits, stored + 8 (+ 128).
`weight_zero_point` packs rows as those words pack columns. A value is (code - zero point) * scale, times
`pre_quant_scale` of its column where there is one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_PLAIN = {"F32": "<f4", "F16": "<f2", "F64": "<f8", "I8": "i1", "I32": "<i4", "I64": "<i8"}


def read(path: Path) -> dict[str, Array]:
    """The tensors of a file, floats as float64."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            found[name] = _numbers(data[8 + size + begin : 8 + size + end], entry["dtype"]).reshape(entry["shape"])
    return found


def _numbers(data: bytes, dtype: str) -> Array:
    if dtype == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    if dtype == "F8_E4M3":
        bits = np.frombuffer(data, np.uint8).astype(np.int64)
        exponent, mantissa = bits >> 3 & 15, bits & 7
        value = np.where(exponent == 0, mantissa * 2.0**-9, (8 + mantissa) * 2.0 ** (exponent - 10.0))
        return np.where(bits & 127 == 127, np.nan, np.where(bits >> 7, -value, value))
    numbers = np.frombuffer(data, _PLAIN[dtype])
    return numbers.astype(np.float64) if numbers.dtype.kind == "f" else numbers


def _unpacked(words: Array, bits: int, columns: int) -> Array:
    """Codes [N, columns] of int32 words [N, W]."""
    shifts = np.arange(0, 32, bits)
    fields = words.view(np.uint32).astype(np.int64)[:, :, None] >> shifts & (1 << bits) - 1
    return fields.reshape(len(words), -1)[:, :columns] - (1 << bits - 1)


def decoded(tensors: dict[str, Array], bits: int, part: tuple[int, int]) -> tuple[Array, Array, Array | None]:
    """The weight [N, K] that a layer's tensors mean, the scale of each element, and the zero points.

    Args:
        tensors: by their names in the file, without the layer's.
        bits: of a code.
        part: rows and columns that share a scale.
    """
    codes = tensors.get("weight")
    if codes is None:
        n, k = tensors["weight_shape"].tolist()
        codes = _unpacked(tensors["weight_packed"], bits, k)
        assert codes.shape == (n, k)
    n, k = codes.shape
    scale, zeros = tensors["weight_scale"], None
    scale = scale.reshape(-(-n // part[0]), -(-k // part[1]))
    spread = scale.repeat(part[0], axis=0).repeat(part[1], axis=1)[:n, :k]
    steps = codes.astype(np.float64)
    if "weight_zero_point" in tensors:
        zeros = _unpacked(np.ascontiguousarray(tensors["weight_zero_point"].T), 4, n).T
        steps = steps - zeros.repeat(part[1], axis=1)
    return steps * spread * tensors.get("pre_quant_scale", 1.0), spread, zeros
