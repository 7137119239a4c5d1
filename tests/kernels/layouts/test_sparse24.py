"""2:4 weights are compressed to what a loop over their groups says, and come back but for the sign of zeros."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels.layouts import sparse24
from quant.kernels.layouts.sparse24 import compress, decompress, is_24, meta_width

FP8 = torch.float8_e4m3fn
DTYPES = [torch.int8, torch.uint8, FP8, torch.bfloat16, torch.float16, torch.float32, torch.float64]
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(BITS[x.itemsize])


def random_24(n: int, k: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Every bit pattern, with two of every four zero, and some of the others."""
    generator = torch.Generator().manual_seed(seed)
    itemsize = torch.empty(0, dtype=dtype).itemsize
    values = torch.randint(0, 256, (n, k * itemsize), dtype=torch.uint8, generator=generator).view(BITS[itemsize])
    keep = torch.rand(n, k // 4, 4, generator=generator).argsort(-1) < torch.randint(
        0, 3, (n, k // 4, 1), generator=generator
    )
    return (values * keep.view(n, k)).view(dtype)


def by_loop(values: torch.Tensor, meta: torch.Tensor, k: int) -> torch.Tensor:
    """What the format's words say, one group at a time."""
    weight = torch.zeros(len(values), k, dtype=values.dtype)
    for row, group in product(range(len(values)), range(k // 4)):
        nibble = int(meta[row, group // 2]) >> 4 * (group % 2) & 15
        first, second = nibble & 3, nibble >> 2
        assert first < second
        weight[row, 4 * group + first] = values[row, 2 * group]
        weight[row, 4 * group + second] = values[row, 2 * group + 1]
    return weight


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(1, 5), st.integers(1, 9), st.integers(0, 99))
def test_it_comes_back(dtype: torch.dtype, n: int, groups: int, seed: int) -> None:
    weight = random_24(n, 4 * groups, dtype, seed)
    if dtype.is_floating_point:
        weight = torch.where(weight.double() == 0, torch.zeros((), dtype=dtype), weight)
    values, meta = compress(weight)
    assert (values.shape, values.dtype) == ((n, 2 * groups), dtype)
    assert (meta.shape, meta.dtype) == ((n, meta_width(4 * groups)), torch.uint8)
    back = decompress(values, meta, 4 * groups)
    assert back.dtype == dtype
    assert torch.equal(bits(back), bits(weight))
    assert torch.equal(bits(by_loop(bits(values), meta, 4 * groups)), bits(weight))
    assert is_24(weight)


@pytest.mark.parametrize("dtype", [FP8, torch.bfloat16, torch.float16, torch.float32, torch.float64])
@given(st.lists(st.sampled_from([0.0, -0.0]), min_size=8, max_size=8), st.sampled_from([(0, 1), (1, 3), (2, 3)]))
def test_a_negative_zero_is_a_zero_whose_sign_may_go(
    dtype: torch.dtype, zeros: list[float], kept: tuple[int, int]
) -> None:
    weight = torch.tensor([zeros])
    weight[0, [*kept]] = torch.tensor([2.0, -3.0])
    weight = weight.to(dtype)
    assert is_24(weight)
    back = decompress(*compress(weight), 8)
    assert torch.equal(back.double(), weight.double())  # 0.0 == -0.0
    assert torch.equal(bits(back)[0, [*kept]], bits(weight)[0, [*kept]])


def test_the_sign_bit_of_an_integer_is_a_value() -> None:
    weight = torch.tensor([[0, -128, 0, -128, 0, 0, 0, -128]], dtype=torch.int8)
    values, meta = compress(weight)
    assert values.tolist() == [[-128, -128, 0, -128]]
    assert torch.equal(decompress(values, meta, 8), weight)
    assert not is_24(weight | torch.tensor([-128, 0, 0, 0, 0, 0, 0, 0], dtype=torch.int8))


def test_the_smallest_numbers_and_nan_are_values() -> None:
    smallest = torch.tensor([[1, 0, 0, 1, 0, 0x7F, 0xFF - 256, 0]], dtype=torch.int8).view(FP8)
    assert smallest.isnan().sum() == 2
    assert torch.equal(bits(decompress(*compress(smallest), 8)), bits(smallest))


@pytest.mark.parametrize(
    ("row", "values", "nibble"),
    [
        ([5, 0, 0, 0], [5, 0], 0b0100),
        ([0, 5, 0, 0], [5, 0], 0b1001),
        ([0, 0, 5, 0], [5, 0], 0b1110),
        ([0, 0, 0, 5], [0, 5], 0b1110),
        ([0, 0, 0, 0], [0, 0], 0b0100),
        ([5, 6, 0, 0], [5, 6], 0b0100),
        ([5, 0, 6, 0], [5, 6], 0b1000),
        ([5, 0, 0, 6], [5, 6], 0b1100),
        ([0, 5, 6, 0], [5, 6], 0b1001),
        ([0, 5, 0, 6], [5, 6], 0b1101),
        ([0, 0, 5, 6], [5, 6], 0b1110),
    ],
)
def test_every_place_of_two_values(row: list[int], values: list[int], nibble: int) -> None:
    kept, meta = compress(torch.tensor([[*row, 0, 0, 7, 8]], dtype=torch.int8))
    assert kept.tolist() == [[*values, 7, 8]]
    assert meta.tolist() == [[nibble | 0b1110 << 4]]
    assert compress(torch.tensor([row], dtype=torch.int8))[1].tolist() == [[nibble]]


@pytest.mark.parametrize("dtype", [torch.int8, FP8, torch.bfloat16, torch.float32])
@given(st.integers(1, 3), st.integers(1, 6), st.integers(0, 5), st.integers(0, 3))
def test_any_strides_and_offset(dtype: torch.dtype, n: int, groups: int, wider: int, offset: int) -> None:
    weight = random_24(n, 4 * groups, dtype)
    wide = torch.zeros(200, dtype=dtype)
    view = wide.as_strided(weight.shape, (4 * groups + wider, 1), offset)
    bits(wide).as_strided(view.shape, view.stride(), offset).copy_(bits(weight))
    values, meta = compress(view)
    assert torch.equal(bits(values), bits(compress(weight)[0]))
    halves = torch.zeros(200, dtype=dtype).as_strided(values.shape, (2 * groups + wider, 1), offset).copy_(values)
    assert torch.equal(bits(decompress(halves, meta, 4 * groups)), bits(decompress(values, meta, 4 * groups)))
    assert torch.equal(bits(compress(weight.T.contiguous().T)[0]), bits(values))


@pytest.mark.parametrize("dtype", [torch.int8, torch.bfloat16, torch.float32])
def test_a_weight_of_many_chunks(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    weight = random_24(7, 36, dtype)
    values, meta = compress(weight)
    monkeypatch.setattr(sparse24, "_CHUNK", 5 * 4 * weight.itemsize)
    assert all(torch.equal(bits(x), bits(y)) for x, y in zip(compress(weight), (values, meta), strict=True))
    assert torch.equal(decompress(values, meta, 36).double().nan_to_num(), weight.double().nan_to_num())
    weight[4, 20:24] = 1
    assert not is_24(weight)
    with pytest.raises(ValueError, match="row 4 has more than two nonzero values in columns 20 to 23"):
        compress(weight)


@pytest.mark.parametrize("shape", [(0, 8), (3, 0)])
def test_nothing_is_compressed_to_nothing(shape: tuple[int, int]) -> None:
    values, meta = compress(torch.zeros(shape))
    assert (values.shape, meta.shape) == ((shape[0], shape[1] // 2), (shape[0], meta_width(shape[1])))
    assert decompress(values, meta, shape[1]).shape == shape
    assert is_24(torch.zeros(shape))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("zero_at", [0, 1, 2, 3, None])
def test_three_or_four_values_of_four_are_refused(dtype: torch.dtype, zero_at: int | None) -> None:
    weight = torch.zeros(3, 12).to(dtype)
    row = torch.ones(4)
    if zero_at is not None:
        row[zero_at] = 0
    weight[2, 4:8] = row.to(dtype)
    assert not is_24(weight)
    with pytest.raises(ValueError, match="sparse24: row 2 has more than two nonzero values in columns 4 to 7"):
        compress(weight)
    weight[1, 8:] = row.to(dtype)
    with pytest.raises(ValueError, match="row 1 has more than two nonzero values in columns 8 to 11"):
        compress(weight)


def test_a_width_that_is_no_multiple_of_4_is_refused() -> None:
    with pytest.raises(ValueError, match=r"K a multiple of 4, got \[2, 6\]"):
        compress(torch.zeros(2, 6))
    assert not is_24(torch.zeros(2, 6))
    for refuses in (compress, is_24):
        with pytest.raises(ValueError, match=r"weight must be \[N, K\].*got \[8\]"):
            refuses(torch.zeros(8))


@pytest.mark.parametrize(
    ("values", "meta", "k"),
    [
        (torch.zeros(2, 4), torch.zeros(2, 2, dtype=torch.uint8), 8),
        (torch.zeros(2, 4), torch.zeros(3, 1, dtype=torch.uint8), 8),
        (torch.zeros(2, 4), torch.zeros(2, 1, dtype=torch.int8), 8),
        (torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.uint8), 8),
        (torch.zeros(2, 3), torch.zeros(2, 1, dtype=torch.uint8), 6),
        (torch.zeros(8), torch.zeros(8, 1, dtype=torch.uint8), 8),
    ],
)
def test_parts_of_another_shape_are_refused(values: torch.Tensor, meta: torch.Tensor, k: int) -> None:
    with pytest.raises(
        ValueError, match=rf"a weight \[N, {k}\] has values \[N, {k // 2}\] and metadata uint8 \[N, 1\]"
    ):
        decompress(values, meta, k)


def test_its_name_is_its_module() -> None:
    assert sparse24.__name__.endswith(f".{sparse24.NAME}")
