"""Rows of a float weight as codes, scales and their error, by one compiled loop that reads each row once.

The same bits as `quant.formats` computes by passes of torch, which is what defines them.
"""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass
from typing import NamedTuple

import torch

from quant.kernels.cpu.compiling import library
from quant.kernels.runtime.errors import KernelError

SOURCES = {torch.float32: 0, torch.bfloat16: 1}
#: Numbers of a code, and how codes lie in a file.
INT8, E4M3, INT4 = range(3)
BYTES, OFFSET, NIBBLES = range(3)


class _Rows(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("rows", "columns", "part", "part_rows")),
        *(
            (name, ctypes.c_int32)
            for name in ("source", "codes", "packing", "symmetric", "narrow", "sparse", "given", "shrink_count")
        ),
        *((name, ctypes.c_void_p) for name in ("shrinks", "weight", "packed", "scale", "zero", "lost", "power")),
    )


@dataclass(frozen=True)
class Encoding:
    """What becomes of every row of a weight [N, K].

    Attributes:
        codes: INT8, E4M3 or INT4.
        packing: BYTES, one code each; OFFSET, the same with the first bit flipped, in whole int32s; NIBBLES, two codes
            plus 8 a byte, in whole int32s.
        part: columns that share a scale; None for all.
        part_rows: rows that share a scale: 1, or 128 of a block.
        symmetric: are there no zero points?
        narrow: are scales rounded to bfloat16?
        sparse: do only the two largest of every four columns stay?
        shrinks: factors on a part's range that are tried besides 1, the one of least squared error wins; of parts of
            one row.
    """

    codes: int
    packing: int
    part: int | None = None
    part_rows: int = 1
    symmetric: bool = True
    narrow: bool = False
    sparse: bool = False
    shrinks: tuple[float, ...] = ()

    def width(self, k: int) -> int:
        """Bytes of a row of k codes."""
        return {BYTES: k, OFFSET: -(-k // 4) * 4, NIBBLES: -(-k // 8) * 4}[self.packing]


class Encoded(NamedTuple):
    """Rows that were encoded.

    Attributes:
        packed: uint8 [rows, width], as the file has them.
        scale, zero: float32 [rows, parts]; rows of blocks, where a block's rows share one.
        lost, power: float64 [rows], squares of what rounding changed and of the weight, summed.
    """

    packed: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor
    lost: torch.Tensor
    power: torch.Tensor


@functools.cache
def unavailable() -> str | None:
    """Return why there is no compiled loop on this machine; None where there is one."""
    try:
        library("encode_rows.c")
    except KernelError as error:
        return str(error)
    return None


def encode_rows(weight: torch.Tensor, encoding: Encoding, scale: torch.Tensor | None = None) -> Encoded | None:
    """Encodes some rows of a weight.

    Args:
        weight: [rows, K], contiguous, of a dtype of `SOURCES`, on the CPU. Where rows share scales, its first row is
            the first of a block.
        encoding: how.
        scale: float32, contiguous, as it would be found, to be used instead; of a symmetric encoding.

    Returns:
        None where a weight is not finite.

    Raises:
        KernelError: there is no compiled loop on this machine.
    """
    rows, k = weight.shape
    part = encoding.part or max(k, 1)
    shape = (-(-rows // encoding.part_rows), -(-k // part))
    made = Encoded(
        torch.empty(rows, encoding.width(k), dtype=torch.uint8),
        torch.empty(shape) if scale is None else scale,
        torch.zeros(shape),
        torch.empty(rows, dtype=torch.float64),
        torch.empty(rows, dtype=torch.float64),
    )
    shrinks = (ctypes.c_float * len(encoding.shrinks))(*encoding.shrinks)
    request = _Rows(
        rows, k, part, encoding.part_rows,
        SOURCES[weight.dtype], encoding.codes, encoding.packing, encoding.symmetric, encoding.narrow, encoding.sparse,
        scale is not None, len(encoding.shrinks),
        ctypes.cast(shrinks, ctypes.c_void_p), weight.data_ptr(), *(each.data_ptr() for each in made),
    )  # fmt: skip
    function = library("encode_rows.c").quant_encode_rows
    function.restype = ctypes.c_int64
    status = function(ctypes.byref(request))
    if status < 0:
        raise MemoryError("encode_rows: no memory for a row")
    return None if status else made
