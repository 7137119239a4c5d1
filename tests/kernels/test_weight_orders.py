"""A weight goes from any order into any other, and no order changes what it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from quant.kernels import weight_orders
from quant.kernels.arguments import Int4Weight, Sparse24Weight
from quant.kernels.layouts import nibbles, sparse24
from quant.kernels.weight_orders import INT4, LAYOUTS, SPARSE24, packed, plain
from tests.kernels.weight_cases import FP8, generator_of, group_scales, nibble_codes, weight_24

N, K = 21, 152


def int4(zero: bool = True) -> Int4Weight:
    generator = generator_of(1)
    codes = nibbles.pack(nibble_codes(N, K, generator))
    points = nibble_codes(N, 19, generator) if zero else None
    return Int4Weight(codes, group_scales(N, 19, torch.bfloat16, generator), points, N)


def sparse(dtype: torch.dtype) -> Sparse24Weight:
    return Sparse24Weight(*sparse24.compress(weight_24(N, K, dtype, generator_of(2))), N)


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a.float(), b.float())
    return bool(a == b)


def same(a: Int4Weight | Sparse24Weight, b: Int4Weight | Sparse24Weight) -> bool:
    return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("first", INT4)
@pytest.mark.parametrize("second", INT4)
@pytest.mark.parametrize("zero", [False, True])
def test_int4(first: str, second: str, zero: bool) -> None:
    weight = int4(zero)
    there = packed(packed(weight, first, K), second, K)
    assert there.layout == second and there.groups == 19
    assert same(there, packed(weight, second, K))
    assert same(plain(there, K), weight)


@pytest.mark.parametrize("first", SPARSE24)
@pytest.mark.parametrize("second", SPARSE24)
@pytest.mark.parametrize("dtype", [torch.int8, FP8, torch.bfloat16, torch.float16])
def test_sparse(first: str, second: str, dtype: torch.dtype) -> None:
    weight = sparse(dtype)
    there = packed(packed(weight, first, K), second, K)
    assert there.layout == second
    assert same(there, packed(weight, second, K))
    assert same(plain(there, K), weight)


def test_what_lies_right_is_not_touched() -> None:
    four, two = int4(), sparse(FP8)
    lanes, threads = packed(four, INT4[1], K), packed(two, SPARSE24[2], K)
    assert packed(four, INT4[0], K) is plain(four, K) is four
    assert packed(two, SPARSE24[0], K) is plain(two, K) is two
    assert packed(lanes, INT4[1], K) is lanes
    assert packed(threads, SPARSE24[2], K) is threads


def test_an_order_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no layout is called 'sparse24'"):
        packed(int4(), "sparse24", K)
    with pytest.raises(ValueError, match="no order of a 2:4 weight is called 'nibbles'; there are sparse24, mma_sp"):
        packed(sparse(FP8), "nibbles", K)
    with pytest.raises(ValueError, match="no order of a 2:4 weight is called 'nibbles'"):
        plain(sparse(FP8)._replace(layout="nibbles"), K)


def test_the_orders_of_an_op() -> None:
    assert LAYOUTS == {"int4_mm": INT4, "sparse_scaled_mm": SPARSE24}
    assert INT4 == ("nibbles", "int4_fragments_16", "int4_fragments_8")
    assert SPARSE24 == ("sparse24", "mma_sparse24", "wgmma_sparse24")
    assert Int4Weight._field_defaults == {"layout": INT4[0]}
    assert Sparse24Weight._field_defaults == {"layout": SPARSE24[0]}
    assert set(weight_orders.SPARSE_MODULES) == set(SPARSE24[1:])
