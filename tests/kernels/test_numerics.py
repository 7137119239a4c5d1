"""The arithmetic of a code, against the numbers themselves."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels.numerics import LARGEST, SMALLEST_SCALE, encode, scale_from_amax

DTYPES = list(LARGEST)
ALL_E4M3 = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)


def test_int8_rounds_half_to_even() -> None:
    values = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5])
    assert encode(values, torch.ones(1), torch.int8).tolist() == [0, 2, 2, 0, -2, -2, 126]


@pytest.mark.parametrize("dtype", DTYPES)
def test_saturates_and_never_wraps(dtype: torch.dtype) -> None:
    codes = encode(torch.tensor([1e30, -1e30, 449.0, -449.0]), torch.ones(1), dtype).float()
    assert codes.tolist() == [LARGEST[dtype], -LARGEST[dtype]] * 2


def test_every_fp8_number_is_its_own_code() -> None:
    numbers = ALL_E4M3.float()
    numbers = numbers[numbers.isfinite()]
    assert torch.equal(encode(numbers, torch.ones(1), torch.float8_e4m3fn).float(), numbers)


@given(st.floats(-448, 448, allow_subnormal=False))
def test_fp8_takes_the_nearest_number(value: float) -> None:
    numbers = ALL_E4M3.float()
    numbers = numbers[numbers.isfinite()].double()
    found = encode(torch.tensor([value]), torch.ones(1), torch.float8_e4m3fn).double().item()
    exact = torch.tensor(value).double()  # the float32 that was encoded
    assert abs(found - exact) == (numbers - exact).abs().min()


@pytest.mark.parametrize("dtype", DTYPES)
def test_scale_maps_the_largest_value_to_the_largest_code(dtype: torch.dtype) -> None:
    amax = torch.tensor([0.0, 1e-45, 3.0, 1e4])
    scale = scale_from_amax(amax, dtype)
    assert scale[0] == 1
    assert scale[1] == SMALLEST_SCALE
    assert encode(amax[2:], scale[2:], dtype).float().tolist() == [LARGEST[dtype]] * 2


def test_a_code_is_a_quotient_and_not_a_product_with_a_reciprocal() -> None:
    scale = torch.rand(500, 1, generator=torch.Generator().manual_seed(0)) + 0.01
    values = (torch.arange(126) + 0.5) * scale  # ties, where the last bit decides
    quotient = (values.double() / scale.double()).float().round().to(torch.int8)
    product = (values * (1 / scale)).round().to(torch.int8)
    assert torch.equal(encode(values, scale, torch.int8), quotient)
    assert not torch.equal(product, quotient)
