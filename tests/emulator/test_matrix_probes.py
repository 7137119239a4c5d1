"""The wrappers of 16-bit and of sparse matrix instructions on the emulator, against the figures of the PTX manual."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.emulator.probe_runs import ran
from tests.emulator.ptx_tables import (
    Array,
    Floats,
    a_matrices,
    a_of_halves,
    b_matrices,
    b_of_halves,
    c_matrices,
    e4m3_floats,
    expanded,
    halves,
    metadata_of_8_bits,
    metadata_of_16_bits,
    toward_zero,
    truncated_sum,
    wide_sums,
)

HALVES = (torch.float16, torch.bfloat16)
COLUMNS = (32, 64, 128, 192, 256)


# ---- Of a warp ----


def assert_cut_off(found: Floats, exact: Floats) -> None:
    """Every product but the last has sums that any accumulator holds; in the last three quarters of a bit are lost."""
    assert (found[:-1] == exact[:-1]).all()
    assert (exact[-1] == 1 + 0.75 * 2.0**-23).all()
    assert (found[-1] == 1).all()
    assert (found == toward_zero(exact)).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_mma_of_16_bits(dtype: torch.dtype) -> None:
    *operands, c = ran("probe_mma_16")[0]
    which = HALVES.index(dtype)
    a, b = operands[2 * which : 2 * which + 2]
    exact = c_matrices(c) + a_of_halves(halves(a, dtype)) @ b_of_halves(halves(b, dtype))
    assert len(np.unique(exact)) > 100
    assert_cut_off(c_matrices(ran("probe_mma_16")[1][which]).astype(np.float64), exact)


def test_fp16_operands_may_be_subnormal() -> None:
    """For the values of the test above."""
    for operand in ran("probe_mma_16")[0][:2]:
        values = np.abs(halves(operand, torch.float16))
        assert ((values > 0) & (values < 2.0**-14)).mean() > 0.1


def test_mma_sp_s8_is_an_exact_product_that_wraps() -> None:
    (a, b, metadata, c), (sums,) = ran("probe_mma_sp_s8")
    left = expanded(a_matrices(a).view(np.int8), metadata_of_8_bits(metadata)).astype(np.int64)
    exact = c_matrices(c).astype(np.int64) + left @ b_matrices(b).view(np.int8).astype(np.int64)
    assert left.shape[1:] == (16, 64)
    assert abs(exact[0]).max() > 128 * 128 * 31
    assert exact[1].max() > 2**31
    assert (c_matrices(sums) == exact.astype(np.int32)).all()


def test_mma_sp_e4m3_keeps_fourteen_bits_of_each_addend() -> None:
    (a, b, metadata, c), (sums,) = ran("probe_mma_sp_e4m3")
    left = expanded(e4m3_floats(a_matrices(a)), metadata_of_8_bits(metadata))
    right = e4m3_floats(b_matrices(b)).transpose(0, 2, 1)
    before, found = c_matrices(c).astype(np.float64), c_matrices(sums)
    for product in range(len(a)):
        assert (found[product] == truncated_sum(before[product], left[product], right[product])).all()
    exact = before + left @ right.transpose(0, 2, 1)
    assert (found[:4] == exact[:4]).all()
    assert (found[4:] != exact[4:]).mean() > 0.5


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("dtype", HALVES)
def test_mma_sp_of_16_bits_asks_half_of_the_lanes(dtype: torch.dtype, selector: int) -> None:
    *operands, metadata, c = ran("probe_mma_sp_16")[0]
    which = HALVES.index(dtype)
    a, b = operands[2 * which : 2 * which + 2]
    left = expanded(a_of_halves(halves(a, dtype)), metadata_of_16_bits(metadata, selector))
    exact = c_matrices(c) + left @ b_of_halves(halves(b, dtype))
    found = c_matrices(ran("probe_mma_sp_16")[1][which][:, :, selector])
    kept_first = (metadata_of_16_bits(metadata, selector)[-1, :, 0] & 3) == 0
    assert kept_first.any()
    assert_cut_off(found.astype(np.float64), exact)


# ---- Of a warpgroup: a block makes one product of one width by two instructions; every third begins anew ----


def products(before: torch.Tensor, after: torch.Tensor) -> Iterator[tuple[int, int, Array, Array]]:
    """Number, columns, the sums before, zero where it begins anew, and after: [64, columns]."""
    assert len(before) == 2 * len(COLUMNS)
    for product in range(len(before)):
        columns = COLUMNS[product % 5]
        start, found = (wide_sums(x[product].numpy(), columns) for x in (before, after))
        yield product, columns, start * (product % 3 != 2), found


def metadata_of_warps(words: torch.Tensor, step: int, bits: int) -> Array:
    """[64, 16 or 8] nibbles of [128 threads, 2 instructions] words: warp w tells of rows 16 w to 16 w + 15."""
    of_warps = words[:, step].reshape(4, 32).contiguous()
    nibbles = metadata_of_8_bits(of_warps) if bits == 8 else metadata_of_16_bits(of_warps, 0)
    rows: Array = nibbles.reshape(64, -1)
    return rows


def rows_of(x: torch.Tensor, product: int, count: int) -> Array:
    """The bytes of a product's rows."""
    rows: Array = x[count * product : count * (product + 1)].contiguous().view(torch.uint8).numpy()
    return rows


def values_of(codes: Array, dtype: torch.dtype) -> Floats:
    """Values of bytes, along the last dimension."""
    return torch.from_numpy(np.ascontiguousarray(codes)).view(dtype).double().numpy()


def sparse_factors(
    a: torch.Tensor, b: torch.Tensor, metadata: torch.Tensor, product: int, columns: int, dtype: torch.dtype
) -> list[tuple[Floats, Floats]]:
    """a [64, K] and b [columns, K] of both instructions: bytes 32 s .. of a, bytes 64 s .. of b."""
    left, right = rows_of(a, product, 64), rows_of(b, product, 256)[:columns]
    factors = []
    for step in range(2):
        nibbles = metadata_of_warps(metadata[product], step, 8 * dtype.itemsize)
        kept = values_of(left[:, 32 * step : 32 * step + 32], dtype)
        factors.append((expanded(kept, nibbles), values_of(right[:, 64 * step : 64 * step + 64], dtype)))
    return factors


def register_factors(
    a: torch.Tensor, b: torch.Tensor, product: int, columns: int, dtype: torch.dtype
) -> list[tuple[Floats, Floats]]:
    """The same of registers [128 threads, 2 instructions, 16 bytes]: warp w holds rows 16 w to 16 w + 15."""
    right = rows_of(b, product, 256)[:columns]
    factors = []
    for step in range(2):
        registers = a[product, :, step].reshape(4, 32, -1).contiguous().view(torch.int32)
        if dtype.itemsize == 1:
            left = values_of(a_matrices(registers), dtype)
        else:
            left = a_of_halves(halves(registers, dtype))
        factors.append((left.reshape(64, -1), values_of(right[:, 32 * step : 32 * step + 32], dtype)))
    return factors


def test_wgmma_sp_s8_is_an_exact_product_that_wraps() -> None:
    (a, b, metadata, before), (sums,) = ran("probe_wgmma_sp_s8")
    for product, columns, start, found in products(before, sums):
        exact = start.astype(np.float64)
        for left, right in sparse_factors(a, b, metadata, product, columns, torch.int8):
            exact += left @ right.T
        assert (found == exact.astype(np.int64).astype(np.int32)).all(), product
        if product < 2:
            assert abs(exact).max() > (64 * 128 * 128, 2**31)[product] - 2**21


def test_wgmma_rs_s8_is_an_exact_product_that_wraps() -> None:
    (a, b, before), (sums,) = ran("probe_wgmma_rs_s8")
    for product, columns, start, found in products(before, sums):
        exact = start.astype(np.float64)
        for left, right in register_factors(a, b, product, columns, torch.int8):
            exact += left @ right.T
        assert (found == exact.astype(np.int64).astype(np.int32)).all(), product
        if product < 2:
            assert abs(exact).max() > (64 * 128 * 128, 2**31)[product] - 2**21


def assert_fourteen_bits(product: int, start: Array, found: Array, factors: list[tuple[Floats, Floats]]) -> None:
    sums = exact = start.astype(np.float64)
    for left, right in factors:
        sums = truncated_sum(sums, left, right)
        exact = exact + left @ right.T
    assert (found == sums).all(), product
    if product < 2:
        assert (found == exact).all()
    if product == 6:  # beside a 1, products of 2^-13 still count
        assert (found == 1 + 64 * 2.0**-13).all()
    if product == 7:  # and those of 2^-14 do not
        assert (found == 1).all()


def test_wgmma_sp_e4m3_keeps_fourteen_bits_of_each_addend() -> None:
    (a, b, metadata, before), (sums,) = ran("probe_wgmma_sp_e4m3")
    for product, columns, start, found in products(before, sums):
        factors = sparse_factors(a, b, metadata, product, columns, torch.float8_e4m3fn)
        assert_fourteen_bits(product, start, found, factors)


def test_wgmma_rs_e4m3_keeps_fourteen_bits_of_each_addend() -> None:
    (a, b, before), (sums,) = ran("probe_wgmma_rs_e4m3")
    for product, columns, start, found in products(before, sums):
        factors = register_factors(a, b, product, columns, torch.float8_e4m3fn)
        assert_fourteen_bits(product, start, found, factors)


def assert_16_bits(product: int, start: Array, found: Array, factors: list[tuple[Floats, Floats]]) -> None:
    sums = exact = start.astype(np.float64)
    for left, right in factors:
        sums = toward_zero(sums + left @ right.T)
        exact = exact + left @ right.T
    assert (found == sums).all(), product
    if product < 9:
        assert (found == exact).all()
        assert len(np.unique(exact)) > 50
    else:
        assert (exact == 1 + 0.75 * 2.0**-23).all()
        assert (found == 1).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_wgmma_sp_of_16_bits(dtype: torch.dtype) -> None:
    *operands, metadata, before = ran("probe_wgmma_sp_16")[0]
    which = HALVES.index(dtype)
    a, b = operands[2 * which : 2 * which + 2]
    for product, columns, start, found in products(before, ran("probe_wgmma_sp_16")[1][which]):
        assert_16_bits(product, start, found, sparse_factors(a, b, metadata, product, columns, dtype))


@pytest.mark.parametrize("dtype", HALVES)
def test_wgmma_rs_of_16_bits(dtype: torch.dtype) -> None:
    *operands, before = ran("probe_wgmma_rs_16")[0]
    which = HALVES.index(dtype)
    a, b = operands[2 * which : 2 * which + 2]
    for product, columns, start, found in products(before, ran("probe_wgmma_rs_16")[1][which]):
        assert_16_bits(product, start, found, register_factors(a, b, product, columns, dtype))
