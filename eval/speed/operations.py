"""What a block computes, one operation at a time, with the arithmetic and the memory traffic it needs at least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from quant.scheme import Scheme

MATMUL, ATTENTION, ELEMENTWISE = "matmul", "attention", "elementwise"
KINDS = (MATMUL, ATTENTION, ELEMENTWISE)

#: Bytes of a number.
_BF16, _FLOAT32, _CODE = 2, 4, 1


class Operation(NamedTuple):
    """One kernel's work.

    Attributes:
        name: the layer, or what is done.
        kind: one of `KINDS`.
        numbers: what is multiplied: "bf16", "fp8" or "int8"; "bf16" for element-wise work, which multiplies little.
        sizes: M, N, K of a matmul; samples, queries, keys, heads and head_dim of attention; rows otherwise.
        operations: multiplications and additions; 0 for element-wise work, where they never take longer than memory.
        nbytes: read and written at least once: every operand that is as large as the tokens or the weight.
    """

    name: str
    kind: str
    numbers: str
    sizes: Mapping[str, int]
    operations: int
    nbytes: int


def numbers_of(scheme: Scheme | None) -> str:
    """What a layer of this scheme multiplies; None is a layer that is not quantized."""
    if scheme is None:
        return "bf16"
    assert scheme.input_activations is not None
    return "int8" if scheme.input_activations.type == "int" else "fp8"


def matmul(
    name: str, m: int, n: int, k: int, scheme: Scheme | None, *, residual: bool = False, codes: bool = False
) -> Operation:
    """x [m, k] by a weight [n, k] and a bias [n], into [m, n]; quantized operands come with their scales.

    Args:
        name: the layer's.
        m, n, k: sizes.
        scheme: of both operands; None for bf16.
        residual: is a residual [m, n] read and added on the way out?
        codes: is the result written as 8-bit codes, not in bf16?
    """
    numbers = numbers_of(scheme)
    nbytes = (m + n) * k * (_BF16 if scheme is None else _CODE) + m * n * (_CODE if codes else _BF16)
    nbytes += n * _BF16
    if scheme is not None:
        inputs = 1 if scheme.has_static_input else m
        per_channel = scheme.weights is not None and scheme.weights.strategy == "channel"
        nbytes += (inputs + (n if per_channel else 1)) * _FLOAT32
    if residual:
        nbytes += m * n * _BF16
    return Operation(name, MATMUL, numbers, {"M": m, "N": n, "K": k}, 2 * m * n * k, nbytes)


def attention(name: str, samples: int, queries: int, keys: int, heads: int, head_dim: int) -> Operation:
    """Two matmuls, queries by keys and weights by values, in bf16; the [queries, keys] between stay on the chip."""
    sizes = {"samples": samples, "queries": queries, "keys": keys, "heads": heads, "head_dim": head_dim}
    width = samples * heads * head_dim
    return Operation(name, ATTENTION, "bf16", sizes, 4 * queries * keys * width, 2 * (queries + keys) * width * _BF16)


def elementwise(name: str, rows: int, read: int, written: int) -> Operation:
    """One pass over rows of `read` numbers in bf16 into rows of `written`."""
    return Operation(name, ELEMENTWISE, "bf16", {"rows": rows}, 0, rows * (read + written) * _BF16)


def quantize(name: str, rows: int, k: int, scheme: Scheme) -> Operation:
    """Rows [k] in bf16 to codes, and where their scale is found while running a scale for each."""
    scale = 0 if scheme.has_static_input else _FLOAT32
    return Operation(name, ELEMENTWISE, "bf16", {"rows": rows}, 0, rows * (k * (_BF16 + _CODE) + scale))
