"""What a stored tensor may hold: all that is packed here passes, and each kind of damage is named with its place."""

from __future__ import annotations

import pytest
import torch

from quant.formats.checks import has_nan_code, not_finite
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import LowRank, fault, pack_linear, reads_as, tensor_layout
from tests.formats.weights import normal_weight

N, K = 24, 256
SMALLEST, LARGEST = 2.0**-126, torch.finfo(torch.float32).max


def packed(scheme: str, *, sparse: bool = False) -> tuple[LayerFormat, dict[str, torch.Tensor]]:
    """A layer with everything that may stand beside its scheme."""
    layer_format = LayerFormat(SCHEMES[scheme], smoothed=True, sparse=sparse, rank=2)
    weight = normal_weight(N, K)
    if sparse:
        weight = weight.reshape(N, -1, 4).mul(torch.tensor([1.0, 0, 0, 1])).reshape(N, K)
    made = pack_linear(
        weight,
        layer_format,
        input_scale=torch.tensor([0.5]) if layer_format.scheme.has_static_input else None,
        pre_quant_scale=torch.linspace(0.5, 2, K),
        low_rank=LowRank(torch.randn(N, 2), torch.randn(2, K)),
    )
    return layer_format, made


@pytest.mark.parametrize("scheme", [name for name, scheme in SCHEMES.items() if scheme.weights is not None])
def test_what_is_packed_here_is_right(scheme: str) -> None:
    layer_format, tensors = packed(scheme)
    assert tensors.keys() == tensor_layout(layer_format, N, K).keys()
    assert {leaf: fault(leaf, tensor, layer_format, N, K) for leaf, tensor in tensors.items()} == dict.fromkeys(tensors)


@pytest.mark.parametrize("scheme", ["FP8", "W8A8", "W4A16", "FP8_BLOCK"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((float("nan"), "NaN"), (float("inf"), "Inf"), (float("-inf"), "-Inf"), (0.0, "0"), (-1.0, "-1")),
        *((SMALLEST / 2, "5.87747e-39"), (LARGEST / 4, "8.50706e+37")),
    ],
)
def test_a_scale_is_finite_positive_and_no_subnormal(scheme: str, value: float, shown: str) -> None:
    layer_format, tensors = packed(scheme)
    scale = tensors["weight_scale"].clone()
    last = tuple(size - 1 for size in scale.shape)
    scale[last] = value
    found = fault("weight_scale", scale, layer_format, N, K)
    assert found is not None
    assert found.startswith(f"holds {shown} at {list(last)}; a scale is finite, at least 2**-126 and at most ")


@pytest.mark.parametrize(("scheme", "code"), [("FP8", 448), ("W8A8", 127), ("W4A16", 7)])
def test_a_scale_may_be_what_the_largest_weight_needs(scheme: str, code: int) -> None:
    layer_format, tensors = packed(scheme)
    for value in (SMALLEST, LARGEST / code):
        scale = torch.full_like(tensors["weight_scale"], value)
        assert fault("weight_scale", scale, layer_format, N, K) is None
    weight = torch.full((N, K), LARGEST)
    made = pack_linear(weight, LayerFormat(SCHEMES[scheme]), input_scale=torch.ones(1) if scheme == "FP8" else None)
    assert fault("weight_scale", made["weight_scale"], LayerFormat(SCHEMES[scheme]), N, K) is None


@pytest.mark.parametrize("code", [0x7F, 0xFF])
def test_fp8_codes_hold_no_nan(code: int) -> None:
    layer_format, tensors = packed("FP8_DYNAMIC")
    weight = tensors["weight"].clone()
    weight.view(torch.uint8)[N - 1, K - 1] = code
    assert fault("weight", weight, layer_format, N, K) == "holds NaN: 0x7f and 0xff are no codes of a weight"
    weight.view(torch.uint8)[N - 1, K - 1] = code - 1  # 448 and -448
    assert fault("weight", weight, layer_format, N, K) is None


def test_a_nan_is_found_among_many_codes() -> None:
    codes = torch.arange(2**21 + 5).to(torch.uint8) & 0x7E
    assert not has_nan_code(codes.view(torch.float8_e4m3fn))
    for place, code in ((0, 0xFF), (2**20, 0x7F), (-1, 0xFF)):
        damaged = codes.clone()
        damaged[place] = code
        assert has_nan_code(damaged.view(torch.float8_e4m3fn))
    assert not has_nan_code(codes.to(torch.int8).fill_(0x7F))
    assert not has_nan_code(torch.empty(0, 4, dtype=torch.float8_e4m3fn))


def test_every_int8_code_decodes() -> None:
    layer_format, tensors = packed("W8A8")
    assert (
        fault("weight", torch.full_like(tensors["weight"], -128), layer_format, N, K) is None
    )  # as compressed-tensors writes


@pytest.mark.parametrize("scheme", ["FP8_DYNAMIC", "W8A8"])
def test_two_of_four_are_zero(scheme: str) -> None:
    layer_format, tensors = packed(scheme, sparse=True)
    assert fault("weight", tensors["weight"], layer_format, N, K) is None
    weight = tensors["weight"].clone()
    weight.view(torch.uint8)[5, 8:12] = 0x38
    assert fault("weight", weight, layer_format, N, K) == (
        "is not 2:4: row 5 has more than two nonzero values in columns 8 to 11"
    )


def test_a_shape_is_the_true_one() -> None:
    layer_format, tensors = packed("W4A16")
    assert fault("weight_shape", tensors["weight_shape"], layer_format, N, K) is None
    for wrong in ([N, K - 1], [2**40, K], [K, N], [-N, K]):
        assert fault("weight_shape", torch.tensor(wrong), layer_format, N, K) == f"is {wrong}, the weight is {[N, K]}"


@pytest.mark.parametrize("leaf", ["pre_quant_scale", "input_scale", "low_rank_up", "low_rank_down", "bias"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_what_stands_beside_the_codes(leaf: str, value: float) -> None:
    layer_format, tensors = packed("FP8")
    tensor = {**tensors, "bias": torch.zeros(N)}[leaf].clone()
    tensor.view(-1)[-1] = value
    wrong = not (value <= 0 and leaf in ("low_rank_up", "low_rank_down", "bias"))
    assert (fault(leaf, tensor, layer_format, N, K) is not None) is wrong


@pytest.mark.parametrize(
    ("edges", "says"),
    [
        ([1.0, 2.0], None),
        ([2.0, 2.0], "holds 2 at [1]; each edge between bins is above the one before"),
        ([2.0, 1.0], "holds 1 at [1]; each edge between bins is above the one before"),
        ([float("nan"), 1.0], "holds NaN at [0]; weights are finite"),
    ],
)
def test_edges_between_bins_rise(edges: list[float], says: str | None) -> None:
    layer_format = LayerFormat(SCHEMES["FP8"], bins=3)
    assert fault("bin_edges", torch.tensor(edges), layer_format, N, K) == says


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_not_finite_names_the_first_place(dtype: torch.dtype) -> None:
    tensor = torch.zeros(3, 4, dtype=dtype)
    assert not_finite(tensor) is None
    assert not_finite(torch.full_like(tensor, torch.finfo(dtype).max)) is None  # whose sum overflows
    tensor[1, 2], tensor[2, 3] = float("-inf"), float("inf")  # whose sum is NaN
    assert not_finite(tensor) == "holds -Inf at [1, 2]; weights are finite"
    assert not_finite(torch.zeros(0, dtype=dtype)) is None
    assert not_finite(torch.tensor([1])) is None


def test_scales_in_16_bits_are_read_as_float32_and_nothing_else_changes_its_dtype() -> None:
    half = (torch.bfloat16, torch.float16)
    for found in (*half, torch.float32, torch.float64, torch.int8, torch.float8_e4m3fn):
        assert reads_as(torch.float32, found) is (found in (*half, torch.float32))
        assert reads_as(torch.int8, found) is (found == torch.int8)
        assert reads_as(torch.bfloat16, found) is (found == torch.bfloat16)
        assert reads_as(None, found) is (found.is_floating_point and found.itemsize > 1)
