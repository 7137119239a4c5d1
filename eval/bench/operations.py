"""What a block computes, one operation at a time, with the arithmetic and the memory traffic it needs at least."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from quant.formats.layer import LayerFormat
from quant.formats.table import format_of

MATMUL, ATTENTION, ELEMENTWISE = "matmul", "attention", "elementwise"
KINDS = (MATMUL, ATTENTION, ELEMENTWISE)

#: Bytes of a number.
_BF16, _FLOAT32, _CODE = 2, 4, 1


class Operation(NamedTuple):
    """One kernel's work.

    Attributes:
        name: the layer, or what is done.
        kind: one of `KINDS`.
        numbers: what is multiplied, see `numbers_of`; "bf16" for element-wise work, which multiplies little.
        sizes: M, N, K of a matmul; samples, queries, keys, heads and head_dim of attention; rows otherwise.
        operations: multiplications and additions, also those by the zeros of a 2:4 weight; 0 for element-wise work,
            where they never take longer than memory.
        nbytes: read and written at least once: every operand that is as large as the tokens or the weight.
    """

    name: str
    kind: str
    numbers: str
    sizes: Mapping[str, int]
    operations: int
    nbytes: int


def codes_of(layer_format: LayerFormat | None) -> str | None:
    """The codes that a layer's input becomes, "fp8" or "int8"; None where it stays in bf16."""
    inputs = None if layer_format is None else layer_format.scheme.input_activations
    return None if inputs is None else "int8" if inputs.type == "int" else "fp8"


def numbers_of(layer_format: LayerFormat | None) -> str:
    """What a layer of this format multiplies; None is a layer that is left as it is.

    "bf16", "fp8" or "int8" by the input; before that "sparse" where the weight is 2:4, and "int4 x" or "int8 x" where
    it is stored so and unpacked to the input's numbers on its way.
    """
    inputs = codes_of(layer_format) or "bf16"
    if layer_format is None:
        return inputs
    return f"{format_of(layer_format).numbers} {inputs}".strip()


def matmul(
    name: str, m: int, n: int, k: int, layer_format: LayerFormat | None, *, residual: bool = False, codes: bool = False
) -> Operation:
    """x [m, k] by a weight [n, k] and a bias [n], into [m, n]; quantized operands come with their scales.

    Args:
        name: the layer's.
        m, n, k: sizes.
        layer_format: of the layer; None for bf16.
        residual: is a residual [m, n] read and added on the way out?
        codes: is the result written as 8-bit codes, not in bf16?
    """
    inputs = m * k * (_BF16 if codes_of(layer_format) is None else _CODE) + m * _row_scales(layer_format, k)
    if layer_format is not None and layer_format.scheme.has_static_input:
        inputs += _FLOAT32
    nbytes = (
        inputs
        + (n * k * _BF16 if layer_format is None else format_of(layer_format).nbytes(n, k))
        + n * _BF16
        + m * n * (_CODE if codes else _BF16)
    )
    if residual:
        nbytes += m * n * _BF16
    return Operation(name, MATMUL, numbers_of(layer_format), {"M": m, "N": n, "K": k}, 2 * m * n * k, nbytes)


def _row_scales(layer_format: LayerFormat | None, k: int) -> int:
    """Bytes of the scales that are found for a row [k] of a layer's input while running."""
    inputs = None if layer_format is None else layer_format.scheme.input_activations
    if inputs is None or not inputs.dynamic:
        return 0
    return _FLOAT32 * (1 if inputs.group_size is None else math.ceil(k / inputs.group_size))


def attention(name: str, samples: int, queries: int, keys: int, heads: int, head_dim: int) -> Operation:
    """Two matmuls, queries by keys and weights by values, in bf16; the [queries, keys] between stay on the chip."""
    sizes = {"samples": samples, "queries": queries, "keys": keys, "heads": heads, "head_dim": head_dim}
    width = samples * heads * head_dim
    return Operation(name, ATTENTION, "bf16", sizes, 4 * queries * keys * width, 2 * (queries + keys) * width * _BF16)


def elementwise(name: str, rows: int, read: int, written: int) -> Operation:
    """One pass over rows of `read` numbers in bf16 into rows of `written`."""
    return Operation(name, ELEMENTWISE, "bf16", {"rows": rows}, 0, rows * (read + written) * _BF16)


def quantize(name: str, rows: int, k: int, layer_format: LayerFormat) -> Operation:
    """Rows [k] in bf16 to codes, and where their scales are found while running those of each."""
    nbytes = rows * (k * (_BF16 + _CODE) + _row_scales(layer_format, k))
    return Operation(name, ELEMENTWISE, "bf16", {"rows": rows}, 0, nbytes)
