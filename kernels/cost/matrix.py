"""Matrix instructions by their opcodes: how much each of them multiplies."""

from __future__ import annotations

import re

_WGMMA = re.compile(r"^([HIQ])GMMA(\.SP)?\.(\d+)x(\d+)x(\d+)")
_MMA = re.compile(r"^([HIQ])MMA(\.SP)?\.(16)(8)(\d+)")


def dense_products(opcode: str) -> float:
    """Products of one instruction, as dense ones of 8 bits that take as long; 0 for other instructions.

    16-bit operands take twice as long; with 2:4 operands the products by zeros are free.
    """
    found = _WGMMA.match(opcode) or _MMA.match(opcode)
    if found is None:
        return 0.0
    kind, sparse, *sizes = found.groups()
    m, n, k = map(int, sizes)
    return m * n * k * (2.0 if kind == "H" else 1.0) / (2.0 if sparse else 1.0)


def is_asynchronous(opcode: str) -> bool:
    """Is it of a warpgroup, and goes on while other instructions issue?"""
    return _WGMMA.match(opcode) is not None
