"""8-bit codes: closed forms, the nearest code and no other, saturation, and compressed-tensors as oracle."""

from __future__ import annotations

import math

import pytest
import torch
from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.formats.eight_bit import encode, scale_from_amax, storage_dtype
from quant.formats.grid import Grid, grid_of
from quant.formats.scheme import TensorFormat
from quant.kernels.numerics import LARGEST, SMALLEST_SCALE
from tests.formats.weights import TENSOR_FORMATS, format_id, normal_weight, theirs, weights

DTYPES = [torch.int8, torch.float8_e4m3fn]
# Every finite e4m3 value once: 0x7f and 0xff are NaN, 0x80 is -0.
E4M3 = torch.tensor([b for b in range(256) if b not in (0x7F, 0x80, 0xFF)], dtype=torch.uint8)
E4M3_VALUES = E4M3.view(torch.float8_e4m3fn).double().sort().values
INT8_VALUES = torch.arange(-127, 128).double()
ONE = torch.ones(1)


def weight_scale(weight: torch.Tensor, tensor_format: TensorFormat) -> torch.Tensor:
    return grid_of(weight, tensor_format).scale


def unpack_weight(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    strategy = "channel" if scale.ndim == 2 else "tensor"
    return Grid(TensorFormat(8, "int", strategy), scale).values(codes)


def codes_of(values: list[float], dtype: torch.dtype, scale: float = 1.0) -> list[float]:
    return encode(torch.tensor(values), torch.tensor([scale]), dtype).float().tolist()


def test_storage_dtype() -> None:
    assert storage_dtype(TensorFormat(8, "int", "channel")) == torch.int8
    assert storage_dtype(TensorFormat(8, "float", "token")) == torch.float8_e4m3fn


@pytest.mark.parametrize(("dtype", "largest"), [(torch.int8, 127.0), (torch.float8_e4m3fn, 448.0)])
def test_the_scale_maps_the_largest_value_to_the_largest_code(dtype: torch.dtype, largest: float) -> None:
    amax = torch.tensor([0.0, largest, 1.0, 3 * largest, 1e-45, 1e-38])
    expected = [1.0, 1.0, torch.tensor(1 / largest).item(), 3.0, 2.0**-126, 2.0**-126]
    scale = scale_from_amax(amax, dtype)
    assert scale.dtype == torch.float32
    assert scale.tolist() == expected


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3, 1), (2, 3)])
def test_the_scale_has_the_shape_of_amax(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    assert scale_from_amax(torch.ones(shape, dtype=torch.bfloat16), dtype).shape == shape


@pytest.mark.parametrize("kind", ["int", "float"])
def test_one_scale_per_channel_or_one_in_all(kind: str) -> None:
    weight = torch.tensor([[1.0, -4.0], [0.0, 0.0], [0.5, 0.25]])
    largest = LARGEST[storage_dtype(TensorFormat(8, kind, "channel"))]
    per_channel = weight_scale(weight, TensorFormat(8, kind, "channel"))
    torch.testing.assert_close(per_channel, torch.tensor([[4 / largest], [1.0], [0.5 / largest]]), rtol=0, atol=0)
    per_tensor = weight_scale(weight, TensorFormat(8, kind, "tensor"))
    torch.testing.assert_close(per_tensor, torch.tensor([4 / largest]), rtol=0, atol=0)


def test_int8_rounds_half_to_even() -> None:
    values = [0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49, 126.5, -126.5]
    assert codes_of(values, torch.int8) == [0, 2, 2, 0, -2, -2, 0, 126, -126]


def test_fp8_rounds_half_to_even() -> None:
    # Steps: 1/8 from 1 to 2, 32 from 256 to 448, 2**-9 below 2**-6.
    values = [1 + 1 / 16, 1 + 3 / 16, 272.0, 304.0, 2.0**-10, 3 * 2.0**-10, -1 - 1 / 16]
    assert codes_of(values, torch.float8_e4m3fn) == [1.0, 1.25, 256.0, 320.0, 0.0, 2.0**-8, -1.0]


@pytest.mark.parametrize("dtype", DTYPES)
def test_saturates_and_never_wraps(dtype: torch.dtype) -> None:
    largest = LARGEST[dtype]
    values = [largest * 1.001, largest + 16, 1e3, 1e30, torch.finfo(torch.float32).max]
    assert codes_of(values, dtype) == [largest] * len(values)
    assert codes_of([-v for v in values], dtype) == [-largest] * len(values)
    assert codes_of([1.0, -1.0], dtype, scale=SMALLEST_SCALE) == [largest, -largest]


@given(value=st.floats(allow_nan=False, allow_infinity=False, width=32), scale=st.floats(2.0**-126, 2.0**100, width=32))
def test_any_value_over_any_scale_gives_a_code_of_its_sign(value: float, scale: float) -> None:
    for dtype in DTYPES:
        (code,) = codes_of([value], dtype, scale)
        assert abs(code) <= LARGEST[dtype]
        assert code == 0 or math.copysign(1, code) == math.copysign(1, value)


def test_the_code_is_a_quotient_not_a_product_with_a_reciprocal() -> None:
    """Where w/s is a tie, the rounding of 1/s decides the product."""
    scale = torch.arange(1, 400) / 977
    values = scale * 62.5
    quotient, product = (values / scale).round(), (values * (1 / scale)).round()
    assert (quotient != product).any()
    assert torch.equal(encode(values, scale, torch.int8).float(), quotient)


@pytest.mark.parametrize("tensor_format", TENSOR_FORMATS, ids=format_id)
@given(weight=weights())
@settings(max_examples=150)
def test_the_code_is_the_nearest_one(tensor_format: TensorFormat, weight: torch.Tensor) -> None:
    """The stored weight is within half a step: no other code is nearer, up to float32's own rounding."""
    scale = weight_scale(weight, tensor_format)
    assert (scale >= SMALLEST_SCALE).all()
    codes = encode(weight, scale, storage_dtype(tensor_format))
    values = E4M3_VALUES if tensor_format.type == "float" else INT8_VALUES
    scaled = weight.double() / scale.double()
    error = (codes.double() - scaled).abs()
    best = (values - scaled.unsqueeze(-1)).abs().amin(dim=-1)
    assert (error <= best + scaled.abs() * 2.0**-23).all()
    half_step = torch.full_like(scaled, 0.5) if tensor_format.type == "int" else (scaled.abs() / 16).clamp(min=2.0**-10)
    assert (error <= half_step + scaled.abs() * 2.0**-23).all()


@pytest.mark.parametrize("tensor_format", TENSOR_FORMATS, ids=format_id)
@given(weight=weights())
@settings(max_examples=50)
def test_the_largest_value_gets_the_largest_code(tensor_format: TensorFormat, weight: torch.Tensor) -> None:
    scale = weight_scale(weight, tensor_format)
    codes = encode(weight, scale, storage_dtype(tensor_format)).float().abs()
    largest = LARGEST[storage_dtype(tensor_format)]
    if tensor_format.strategy == "tensor":
        codes, weight = codes.reshape(1, -1), weight.reshape(1, -1)
    for row, amax in zip(codes, weight.abs().amax(dim=1), strict=True):
        if amax >= largest * SMALLEST_SCALE:
            assert row.amax() == largest
        elif amax == 0:
            assert row.amax() == 0


@pytest.mark.parametrize("tensor_format", TENSOR_FORMATS, ids=format_id)
def test_zeros_stay_zeros(tensor_format: TensorFormat) -> None:
    weight = torch.zeros(3, 5)
    scale = weight_scale(weight, tensor_format)
    assert torch.equal(scale, torch.ones(3, 1) if tensor_format.strategy == "channel" else ONE)
    assert torch.equal(unpack_weight(encode(weight, scale, storage_dtype(tensor_format)), scale), weight)


@pytest.mark.parametrize("tensor_format", TENSOR_FORMATS, ids=format_id)
def test_packing_what_was_unpacked_changes_nothing(tensor_format: TensorFormat) -> None:
    weight = normal_weight(16, 48)
    scale = weight_scale(weight, tensor_format)
    codes = encode(weight, scale, storage_dtype(tensor_format))
    again = unpack_weight(codes, scale)
    assert torch.equal(encode(again, scale, storage_dtype(tensor_format)).float(), codes.float())
    assert again.dtype == torch.float32


@pytest.mark.parametrize(("values", "dtype"), [(INT8_VALUES, torch.int8), (E4M3_VALUES, torch.float8_e4m3fn)])
def test_every_code_survives(values: torch.Tensor, dtype: torch.dtype) -> None:
    scale = torch.tensor([0.375])
    weight = unpack_weight(values.to(dtype).reshape(1, -1), scale)
    assert torch.equal(encode(weight, scale, dtype).double()[0], values)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("tensor_format", TENSOR_FORMATS, ids=format_id)
@pytest.mark.parametrize("shape", [(1, 1), (5, 123), (64, 96)])
def test_compressed_tensors_agrees_given_our_scales(
    tensor_format: TensorFormat, dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    weight = normal_weight(*shape, seed=2, dtype=dtype)
    scale = weight_scale(weight, tensor_format)
    codes = encode(weight, scale, storage_dtype(tensor_format))
    expected = quantize(
        weight.float(), scale, torch.zeros_like(scale), theirs(tensor_format), dtype=storage_dtype(tensor_format)
    )
    assert codes.dtype == expected.dtype
    assert torch.equal(codes.float(), expected.float())
    assert torch.equal(unpack_weight(codes, scale), dequantize(codes, scale, args=theirs(tensor_format)))
