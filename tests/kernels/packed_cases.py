"""Operands of the kernels whose left operand is the weight, in those kernels' orders, and what must come out.

Used by the emulator's tests and by those on a GPU. The expected numbers are computed from plain weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from quant.kernels import reference
from quant.kernels.arguments import Epilogue, Int4Weight, Sparse24Weight
from quant.kernels.layouts import int4_fragments, nibbles, sparse24
from quant.kernels.matmuls import mma_packed, sm90_packed
from quant.kernels.matmuls.base import T
from quant.kernels.matmuls.packed import Packed, Weight
from quant.kernels.ops.int4_mm import by_group
from quant.kernels.weight_orders import SPARSE_MODULES
from tests.kernels.matmul_cases import FP8, INT8, codes, positive
from tests.kernels.weight_cases import activations, group_scales, nibble_codes

_KERNELS = (*sm90_packed.SPARSE, *mma_packed.SPARSE, *sm90_packed.INT4, *mma_packed.INT4)
KINDS: dict[str, Packed[Any]] = {kernel.name: kernel for kernel in _KERNELS}
#: M, N, K: single rows and columns, tails in every direction; K of 2:4 weights is a multiple of 4.
RAGGED = ((1, 1, 4), (1, 64, 128), (5, 123, 76), (33, 40, 300), (130, 136, 256), (70, 72, 144), (37, 257, 96))


def met_by_each_kind(names: Sequence[str], tiles: Callable[[str], Sequence[T]]) -> list[tuple[str, T]]:
    """Kernels with tiles: each tile with a 2:4 and with a 4-bit weight, of 8 and of 16 bits.

    Args:
        names: of kernels.
        tiles: those that a kernel has. Of INT8 and FP8, which move the same bytes, every other tile is met by each,
            where both have it.
    """
    found = []
    for sparse, in_bytes in ((True, 1), (True, 2), (False, 1), (False, 2)):
        alike = [name for name in names if (KINDS[name].sparse, KINDS[name].in_bytes) == (sparse, in_bytes)]
        for place, tile in enumerate(dict.fromkeys(tile for name in alike for tile in tiles(name))):
            having = [name for name in alike if tile in tiles(name)]
            found.append((having[place % len(having)], tile))
    return found


@dataclass(frozen=True)
class Case:
    """One matmul.

    Attributes:
        kernel: which one.
        a: [M, K].
        weight: in the kernel's layout.
        epilogue: what follows the sums.
        expected: the result as the reference has it.
        allowed: how far the sums may be from the reference's, [M, N] after scaling.
    """

    kernel: str
    a: torch.Tensor
    weight: Weight
    epilogue: Epilogue
    expected: torch.Tensor
    allowed: torch.Tensor


def case(
    kernel: str,
    size: tuple[int, int, int],
    *,
    dtype: torch.dtype | None = None,
    group: int = 0,
    asymmetric: bool = False,
    scale_dtype: torch.dtype | None = None,
    fill: str = "every code",
    seed: int = 0,
    shares_k: bool = False,
    ending: Callable[[torch.Generator], Epilogue] | None = None,
) -> Case:
    """A case for a kernel.

    Args:
        kernel: its name.
        size: M, N, K.
        dtype: of a; the kernel's first where not given.
        group: columns that share a scale, of 4-bit weights; 0: one a row.
        asymmetric: with zero points.
        scale_dtype: of group scales; of a where it has floats, else bfloat16.
        fill: "every code", or "positive": sums that only grow.
        seed: of everything.
        shares_k: do warps share K, so that sums are added in another order?
        ending: makes the epilogue, whose scales are replaced; by default a float32 result.
    """
    m, n, k = size
    kind = KINDS[kernel]
    generator = torch.Generator().manual_seed(1009 * seed + m + 31 * n + 997 * k)
    dtype = dtype or kind.dtypes[0]
    is_codes = dtype in (INT8, FP8)
    ones = torch.ones(1, 1)
    epilogue = Epilogue(ones, ones, out_dtype=torch.float32) if ending is None else ending(generator)
    make = positive if fill == "positive" else codes
    a = make(m, k, dtype, generator) if is_codes else activations(m, k, dtype, generator)
    if fill == "positive" and not is_codes:
        a = a.abs()
    a_scale = (torch.rand(m, 1, generator=generator) + 0.1) * 1e-2 if is_codes else ones
    b_scale = (torch.rand(n, 1, generator=generator) + 0.1) * 1e-2 if is_codes and kind.sparse else ones
    epilogue = epilogue._replace(a_scale=a_scale, b_scale=b_scale)
    if kind.sparse:
        dense = _sparse(make(n, k, dtype, generator) if is_codes else activations(n, k, dtype, generator), generator)
        weight: Weight = _packed_24(dense, kind.layout)
        sums = reference.apply_scales(_product(a, dense), epilogue)
        total = reference.apply_scales(a.double().abs() @ dense.double().abs().T, epilogue)
    else:
        values = nibble_codes(n, k, generator).abs() if fill == "positive" else nibble_codes(n, k, generator)
        values = values.clamp(max=7)
        scale = group_scales(
            n, k // group if group else 1, scale_dtype or (torch.bfloat16 if is_codes else dtype), generator
        )
        zero = torch.randint(-8, 8, scale.shape, dtype=INT8, generator=generator) if asymmetric else None
        weight = _packed_4(values, scale, zero, codes=is_codes)
        if is_codes:
            left = values if dtype == INT8 else values.to(dtype)
            sums = by_group(a, left, scale, reference.accumulate) * a_scale
            plain = reference.dequantized(values, scale, None, torch.float32)
        else:
            plain = reference.dequantized(values, scale, zero, dtype)
            sums = _product(a, plain)
        total = a.double().abs() @ plain.double().abs().T * a_scale
    bound = _bound(kernel, dtype, k, shares_k=shares_k)
    return Case(kernel, a, weight, epilogue, reference.finish(sums, epilogue), (total * bound).float())


def _bound(kernel: str, dtype: torch.dtype, k: int, *, shares_k: bool) -> float:
    """How far a sum may be from the reference's, of the sum of magnitudes.

    INT8 is exact; only where warps share K are the scaled sums of groups added in another order, and there may be as
    many as slabs. FP8: as `matmul_cases.allowed`, with half as many instructions where the weight is sparse. Floats:
    tensor cores cut off what an instruction adds below 2**-23 of its largest addend or sum, and so may the reference
    round each of its K sums.
    """
    fp32 = k * 2.0**-23
    if dtype == INT8:
        return 4 * (k / 32 + 16) * 2.0**-24 if shares_k and not KINDS[kernel].sparse else 0.0
    if dtype == FP8:
        return 4 * 33 * 2.0**-13 + fp32
    return fp32 + 2.0**-20


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return reference.accumulate(a, b) if a.dtype == INT8 else a.float() @ b.float().T


def _sparse(dense: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """`dense` [n, k] with two of every four columns zero, and in some fours more."""
    n, k = dense.shape
    order = torch.rand(n, k // 4, 4, generator=generator).argsort(-1)
    kept = order < torch.randint(1, 7, (n, k // 4, 1), generator=generator).clamp(max=2)
    bits = torch.int8 if dense.itemsize == 1 else torch.int16
    return (dense.view(bits) * kept.view(n, k)).to(bits).view(dense.dtype)


def _packed_24(dense: torch.Tensor, layout: str) -> Sparse24Weight:
    order = SPARSE_MODULES[layout]
    values, meta = order.pack(*sparse24.compress(dense))
    return Sparse24Weight(values, meta, len(dense), order.NAME)


def _packed_4(values: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor | None, *, codes: bool) -> Int4Weight:
    layout = int4_fragments.NAME_8 if codes else int4_fragments.NAME_16
    return Int4Weight(
        int4_fragments.pack(nibbles.pack(values), values.shape[1], layout),
        int4_fragments.pack_groups(scale),
        None if zero is None else int4_fragments.pack_groups(zero),
        len(values),
        layout,
    )
