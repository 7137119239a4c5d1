"""Packing is undone exactly, byte for byte, and is nothing where rows fit as they are."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from quant.kernels.layouts import aligned_rows
from quant.kernels.layouts.aligned_rows import BYTES, pack, unpack, width

CODES = [torch.int8, torch.float8_e4m3fn]


@given(st.integers(0, 10_000))
def test_a_row_takes_the_next_multiple_of_16(k: int) -> None:
    assert width(k) == next(size for size in range(k, k + BYTES) if size % BYTES == 0)


@pytest.mark.parametrize("dtype", CODES)
@given(st.lists(st.integers(0, 3), max_size=3), st.integers(1, 70), st.booleans())
@example([256], 1, False)
def test_unpacking_gives_back_every_byte(dtype: torch.dtype, lead: list[int], k: int, transposed: bool) -> None:
    count = torch.Size([*lead, k]).numel()
    bits = torch.arange(count, dtype=torch.int32).to(torch.uint8).view(*lead, k)  # every pattern, NaN among them
    bits = bits.mT.contiguous().mT if transposed and lead else bits
    packed = pack(bits.view(dtype))
    assert (packed.dtype, packed.shape) == (dtype, (*lead, width(k)))
    assert not packed.view(torch.uint8)[..., k:].any()
    back = unpack(packed, k)
    assert (back.dtype, back.is_contiguous() or k % BYTES == 0) == (dtype, True)
    assert torch.equal(back.view(torch.uint8), bits)


@pytest.mark.parametrize("dtype", CODES)
def test_rows_that_fit_are_not_copied(dtype: torch.dtype) -> None:
    codes = torch.zeros(3, 32, dtype=dtype)
    assert pack(codes) is codes
    assert unpack(codes, 32) is codes


def test_packing_keeps_the_device_type() -> None:
    assert pack(torch.empty(3, 5, dtype=torch.int8, device="meta")).is_meta


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("k", [1, 8, 13, 64])
def test_elements_of_two_bytes(k: int, dtype: torch.dtype) -> None:
    bits = torch.arange(3 * k, dtype=torch.int16).view(3, k) - 17
    packed = pack(bits.view(dtype))
    assert (packed.dtype, packed.shape) == (dtype, (3, -(-k // 8) * 8))
    assert not packed.view(torch.int16)[:, k:].any()
    assert torch.equal(unpack(packed, k).view(torch.int16), bits)


def test_an_element_of_more_than_two_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one or two bytes each, got torch\.float32"):
        pack(torch.zeros(2, 16))


@pytest.mark.parametrize(("k", "found"), [(17, 16), (16, 32), (77, 77), (5, 32)])
def test_another_width_is_refused(k: int, found: int) -> None:
    with pytest.raises(ValueError, match=f"rows of {k} elements take {width(k)}, got {found}"):
        unpack(torch.zeros(2, found, dtype=torch.int8), k)


def test_its_name_is_its_module() -> None:
    assert aligned_rows.__name__.endswith(f".{aligned_rows.NAME}")
