"""Nibbles in the order of compressed-tensors, by its own functions and by the example in its words."""

from __future__ import annotations

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32, unpack_from_int32
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels.layouts.nibbles import join, pack, pack_rows, split, unpack, unpack_rows, width

SIZES = st.integers(1, 40)


def codes(n: int, k: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(-8, 8, (n, k), dtype=torch.int8, generator=torch.Generator().manual_seed(seed))


def test_the_order_is_that_of_the_format() -> None:
    packed = pack(torch.tensor([[-8, -7, -1, 0, 1, 2, 7, 3]], dtype=torch.int8))
    assert (packed.dtype, packed.shape) == (torch.int32, (1, 1))
    assert int(packed.item()) & 0xFFFFFFFF == 0xBFA98710


@given(SIZES, SIZES)
def test_columns_are_packed_as_compressed_tensors_does(n: int, k: int) -> None:
    given_codes = codes(n, k)
    packed = pack(given_codes)
    assert torch.equal(packed, pack_to_int32(given_codes, 4))
    assert torch.equal(unpack(packed, k), given_codes)
    assert torch.equal(unpack(packed, k), unpack_from_int32(packed, 4, torch.Size((n, k))))


@given(SIZES, SIZES)
def test_rows_are_packed_as_compressed_tensors_does(n: int, g: int) -> None:
    given_codes = codes(n, g)
    packed = pack_rows(given_codes)
    assert packed.shape == (width(n), g)
    assert torch.equal(packed, pack_to_int32(given_codes, 4, packed_dim=0))
    assert torch.equal(unpack_rows(packed, n), given_codes)
    assert unpack_rows(packed, n).is_contiguous()


@given(st.integers(1, 3), st.integers(1, 20), st.integers(0, 4), st.integers(0, 4), st.booleans())
def test_any_strides_and_offset(n: int, k: int, wider: int, offset: int, down: bool) -> None:
    strides = (1, n + wider) if down else (k + wider, 1)
    view = codes(1, 600)[0].as_strided((n, k), strides, offset)
    packed = pack(view)
    assert torch.equal(unpack(packed, k), view)
    strided = torch.zeros(600, dtype=torch.int32).as_strided(packed.shape, (packed.shape[1] + wider, 1), offset)
    assert torch.equal(unpack(strided.copy_(packed), k), view)


@given(st.integers(1, 7))
def test_bits_behind_the_last_column_are_zero_and_ignored(k: int) -> None:
    given_codes = codes(3, k)
    packed = pack(given_codes)
    behind = -1 << 4 * k  # as int32, ones from there on
    assert not (packed & behind).any()
    assert torch.equal(unpack(packed | behind, k), given_codes)


def test_nothing_packs_to_nothing() -> None:
    assert pack(codes(0, 9)).shape == (0, 2)
    assert unpack(pack(codes(3, 0)), 0).shape == (3, 0)


@given(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 15)), min_size=1, max_size=9))
def test_the_first_of_two_is_in_the_low_bits(pairs: list[tuple[int, int]]) -> None:
    numbers = torch.tensor(pairs, dtype=torch.uint8).view(-1)
    joined = join(numbers)
    assert joined.tolist() == [first | second << 4 for first, second in pairs]
    assert torch.equal(split(joined), numbers)


@pytest.mark.parametrize(("code", "says"), [(8, "got 0 to 8"), (-9, "got -9 to 0"), (-128, "got -128 to 0")])
def test_a_code_of_more_than_4_bits_is_refused(code: int, says: str) -> None:
    given_codes = torch.zeros(2, 9, dtype=torch.int8)
    given_codes[1, 8] = code
    with pytest.raises(ValueError, match=f"codes must be from -8 to 7, {says}"):
        pack(given_codes)


@pytest.mark.parametrize("other", [torch.zeros(2, 8), torch.zeros(8, dtype=torch.int8)])
def test_what_is_not_a_matrix_of_codes_is_refused(other: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"codes must be int8 \[N, K\], got"):
        pack(other)


@pytest.mark.parametrize("packed", [torch.zeros(2, 1, dtype=torch.int32), torch.zeros(2, 2), torch.zeros(2).int()])
def test_another_width_is_refused(packed: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"9 columns are int32 \[N, 2\], got"):
        unpack(packed, 9)
