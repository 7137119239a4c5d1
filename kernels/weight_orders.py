"""A weight in any of the orders that implementations read, and back: one table of the layouts for packed and sparse
weights.

"plain" is the order that the ops' definitions are written in, `nibbles` and `sparse24`.
"""

from __future__ import annotations

from types import ModuleType
from typing import TypeVar

from quant.kernels.arguments import Int4Weight, Sparse24Weight
from quant.kernels.layouts import int4_fragments, mma_sparse24, nibbles, sparse24, wgmma_sparse24

#: Every order of a kind of weight, the plain one first.
INT4 = (nibbles.NAME, *int4_fragments.NAMES)
SPARSE24 = (sparse24.NAME, mma_sparse24.NAME, wgmma_sparse24.NAME)
#: By op.
LAYOUTS = {"int4_mm": INT4, "sparse_scaled_mm": SPARSE24}
SPARSE_MODULES = {mma_sparse24.NAME: mma_sparse24, wgmma_sparse24.NAME: wgmma_sparse24}

Weight = TypeVar("Weight", Int4Weight, Sparse24Weight)


def plain(weight: Weight, k: int) -> Weight:
    """A weight of `k` columns in its plain order; itself where it is in that.

    Raises:
        ValueError: no such order, or tensors that are not a weight [n, k] in it.
    """
    if isinstance(weight, Int4Weight):
        return _plain_int4(weight, k)
    return _plain_sparse(weight, k)


def packed(weight: Weight, layout: str, k: int) -> Weight:
    """A weight of `k` columns in the order `layout`; itself where it is in that. Undone exactly by `plain`.

    Raises:
        ValueError: no such order, or tensors that are not a weight [n, k] in their own.
    """
    if weight.layout == layout:
        return weight
    weight = plain(weight, k)
    if isinstance(weight, Int4Weight):
        return _packed_int4(weight, layout, k)
    return _packed_sparse(weight, layout)


def _plain_int4(weight: Int4Weight, k: int) -> Int4Weight:
    if weight.layout == nibbles.NAME:
        return weight
    return Int4Weight(
        int4_fragments.unpack(weight.packed, weight.n, k, weight.layout),
        int4_fragments.unpack_groups(weight.scale, weight.n),
        None if weight.zero is None else int4_fragments.unpack_groups(weight.zero, weight.n),
        weight.n,
    )


def _packed_int4(weight: Int4Weight, layout: str, k: int) -> Int4Weight:
    if layout == nibbles.NAME:
        return weight
    return Int4Weight(
        int4_fragments.pack(weight.packed, k, layout),
        int4_fragments.pack_groups(weight.scale),
        None if weight.zero is None else int4_fragments.pack_groups(weight.zero),
        weight.n,
        layout,
    )


def _plain_sparse(weight: Sparse24Weight, k: int) -> Sparse24Weight:
    if weight.layout == sparse24.NAME:
        return weight
    values, meta = _sparse_module(weight.layout).unpack(weight.values, weight.meta, weight.n, k)
    return Sparse24Weight(values, meta, weight.n)


def _packed_sparse(weight: Sparse24Weight, layout: str) -> Sparse24Weight:
    if layout == sparse24.NAME:
        return weight
    values, meta = _sparse_module(layout).pack(weight.values, weight.meta)
    return Sparse24Weight(values, meta, weight.n, layout)


def _sparse_module(layout: str) -> ModuleType:
    if layout not in SPARSE_MODULES:
        raise ValueError(f"no order of a 2:4 weight is called '{layout}'; there are {', '.join(SPARSE24)}")
    return SPARSE_MODULES[layout]
