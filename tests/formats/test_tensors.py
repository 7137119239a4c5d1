"""A Linear as the tensors of a checkpoint: names, dtypes, shapes, smoothing, and the way back."""

from __future__ import annotations

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.formats.eight_bit import storage_dtype
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.tensors import (
    coded_weight,
    pack_linear,
    relative_error,
    small_tensors,
    tensor_layout,
    unpack_linear,
)
from tests.formats.weights import normal_weight, weights

SPELLED = [
    Scheme.parse(
        {
            "weights": {"num_bits": 8, "type": kind, "strategy": strategy},
            "input_activations": {"num_bits": 8, "type": kind, "strategy": "tensor"},
        }
    )
    for kind in ("int", "float")
    for strategy in ("channel", "tensor")
]
EIGHT_BIT = [SCHEMES[name] for name in ("FP8_DYNAMIC", "FP8", "W8A8")]
ALL = list({scheme.name: scheme for scheme in [*EIGHT_BIT, *SPELLED]}.values())
W8A8 = SCHEMES["W8A8"]
every_scheme = pytest.mark.parametrize("scheme", ALL, ids=lambda scheme: scheme.name)


def pack(weight: torch.Tensor, scheme: Scheme, smoothing: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    input_scale = torch.tensor([0.25]) if scheme.has_static_input else None
    return pack_linear(weight, LayerFormat(scheme), input_scale=input_scale, pre_quant_scale=smoothing)


@every_scheme
@pytest.mark.parametrize("smoothed", [False, True])
def test_the_layout_is_known_before_the_weight(scheme: Scheme, smoothed: bool) -> None:
    tensors = pack(normal_weight(6, 10), scheme, torch.full((10,), 2.0) if smoothed else None)
    made = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    assert made == tensor_layout(LayerFormat(scheme, smoothed=smoothed), 6, 10)


@every_scheme
def test_the_names(scheme: Scheme) -> None:
    expected = {"weight", "weight_scale"} | ({"input_scale"} if scheme.has_static_input else set())
    weight = normal_weight(4, 4)
    assert pack(weight, scheme).keys() == expected
    assert pack(weight, scheme, torch.ones(4)).keys() == expected | {"pre_quant_scale"}


@every_scheme
@pytest.mark.parametrize("smoothed", [False, True])
def test_packing_is_its_two_halves(scheme: Scheme, smoothed: bool) -> None:
    """Scales are made first and codes later, while the file is written: both ways give the same."""
    weight = normal_weight(5, 7)
    smoothing = torch.rand(7) + 0.5 if smoothed else None
    whole = pack(weight, scheme, smoothing)
    scales = small_tensors(weight, LayerFormat(scheme), input_scale=whole.get("input_scale"), pre_quant_scale=smoothing)
    assert scales.keys() == whole.keys() - {"weight"}
    assert all(torch.equal(scales[name], whole[name]) for name in scales)
    assert torch.equal(coded_weight(weight, LayerFormat(scheme), scales).float(), whole["weight"].float())


def test_a_static_scheme_needs_an_input_scale_and_a_dynamic_one_takes_none() -> None:
    weight = normal_weight(2, 2)
    with pytest.raises(ValueError, match=r"^scheme FP8 needs input_scale$"):
        pack_linear(weight, LayerFormat(SCHEMES["FP8"]))
    with pytest.raises(ValueError, match=r"^scheme W8A8 takes no input_scale$"):
        pack_linear(weight, LayerFormat(W8A8), input_scale=torch.ones(1))


def test_bins_have_a_scale_each_and_edges_between_them() -> None:
    weight, layer_format = normal_weight(2, 2), LayerFormat(SCHEMES["FP8"], bins=3)
    made = pack_linear(weight, layer_format, input_scale=torch.tensor([1.0, 2, 3]), bin_edges=torch.tensor([5.0, 6]))
    layout = tensor_layout(layer_format, 2, 2)
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in made.items()} == layout
    assert layout["input_scale"].shape == (3, 1)
    for scales, edges in (([1.0, 2], [5.0, 6]), ([1.0, 2, 3], [5.0]), ([1.0], None)):
        given = None if edges is None else torch.tensor(edges)
        with pytest.raises(ValueError, match=r"^3 bins have as many scales and 2 edges"):
            pack_linear(weight, layer_format, input_scale=torch.tensor(scales), bin_edges=given)


@pytest.mark.parametrize("given_scale", [torch.tensor(0.5), torch.tensor([[0.5]]), torch.tensor([0.5]).bfloat16()])
def test_the_input_scale_is_stored_as_one_float32(given_scale: torch.Tensor) -> None:
    stored = pack_linear(normal_weight(2, 2), LayerFormat(SCHEMES["FP8"]), input_scale=given_scale)["input_scale"]
    assert (stored.dtype, stored.shape, stored.item()) == (torch.float32, (1,), 0.5)


def test_closed_form() -> None:
    weight = torch.tensor([[127.0, -63.5, 0.0], [0.0, 0.0, 0.0]])
    tensors = pack(weight, SCHEMES["W8A8"])
    assert tensors["weight"].tolist() == [[127, -64, 0], [0, 0, 0]]
    assert tensors["weight_scale"].tolist() == [[1.0], [1.0]]
    assert unpack_linear(tensors, LayerFormat(W8A8)).tolist() == [[127.0, -64.0, 0.0], [0.0, 0.0, 0.0]]


def test_smoothing_divides_the_weight_and_is_undone_on_the_way_back() -> None:
    """[[100, 1]] with the factors (100, 1) is the weight (1, 1): both columns get the largest code."""
    weight, smoothing = torch.tensor([[100.0, 1.0]]), torch.tensor([100.0, 1.0])
    tensors = pack(weight, SCHEMES["W8A8"], smoothing)
    assert tensors["weight"].tolist() == [[127, 127]]
    torch.testing.assert_close(tensors["weight_scale"], torch.tensor([[1 / 127]]), rtol=0, atol=0)
    assert torch.equal(tensors["pre_quant_scale"], smoothing)
    torch.testing.assert_close(unpack_linear(tensors, LayerFormat(W8A8)), weight)
    assert pack(weight, SCHEMES["W8A8"])["weight"].tolist() == [[127, 1]]


def test_a_smoothed_layer_gives_the_output_of_the_original() -> None:
    """The input times `pre_quant_scale` through the stored weight is the input through the unpacked weight."""
    weight, x = normal_weight(6, 8), normal_weight(3, 8, seed=5)
    tensors = pack(weight, SCHEMES["W8A8"], torch.linspace(0.25, 4, 8))
    stored = tensors["weight"].float() * tensors["weight_scale"]
    through_layer = (x * tensors["pre_quant_scale"]) @ stored.T
    torch.testing.assert_close(through_layer, x @ unpack_linear(tensors, LayerFormat(W8A8)).T)


@every_scheme
@given(weight=weights(), exponents=st.lists(st.integers(-8, 8), min_size=9, max_size=9))
@settings(max_examples=25)
def test_smoothing_by_powers_of_two_is_packing_the_divided_weight(
    scheme: Scheme, weight: torch.Tensor, exponents: list[int]
) -> None:
    weight = weight.where(weight.abs() > 1e-30, 0.0)  # a quotient that is subnormal would be rounded
    smoothing = torch.tensor(exponents[: weight.shape[1]]).float().exp2()
    smoothed, plain = pack(weight, scheme, smoothing), pack(weight / smoothing, scheme)
    assert torch.equal(smoothed["weight"].float(), plain["weight"].float())
    assert torch.equal(smoothed["weight_scale"], plain["weight_scale"])
    assert torch.equal(
        unpack_linear(smoothed, LayerFormat(scheme)), unpack_linear(plain, LayerFormat(scheme)) * smoothing
    )


@every_scheme
def test_a_weight_of_any_dtype_packs_as_its_float32_self(scheme: Scheme) -> None:
    for dtype in (torch.bfloat16, torch.float16):
        weight = normal_weight(8, 12, dtype=dtype)
        packed, reference = pack(weight, scheme), pack(weight.float(), scheme)
        assert all(torch.equal(packed[name].float(), reference[name].float()) for name in reference)


@every_scheme
def test_compressed_tensors_compresses_to_the_same_codes(scheme: Scheme) -> None:
    weight = normal_weight(24, 40, seed=3)
    tensors = pack(weight, scheme)
    their_scheme = QuantizationScheme.model_validate({"targets": ["Linear"], **scheme.to_dict()})
    compressor = BaseCompressor.get_value_from_registry(scheme.format)
    compressed = compressor.compress({**tensors, "weight": weight}, their_scheme)
    assert scheme.weights is not None
    assert compressed["weight"].dtype == storage_dtype(scheme.weights)
    assert torch.equal(compressed["weight"].float(), tensors["weight"].float())
    assert torch.equal(
        compressor.decompress(tensors, their_scheme)["weight"], unpack_linear(tensors, LayerFormat(scheme))
    )


@pytest.mark.parametrize(("name", "low", "high"), [("W8A8", 0.003, 0.02), ("FP8_DYNAMIC", 0.015, 0.04)])
def test_the_relative_error_of_a_normal_weight(name: str, low: float, high: float) -> None:
    weight = normal_weight(64, 256)
    layer_format = LayerFormat(SCHEMES[name])
    tensors = pack(weight, layer_format.scheme)
    error = relative_error(weight, tensors, layer_format)
    assert low < error < high
    double = (unpack_linear(tensors, layer_format).double() - weight.double()).norm() / weight.double().norm()
    assert error == pytest.approx(double.item(), rel=1e-4)


def test_the_relative_error_of_exact_and_of_zero_weights() -> None:
    codes = torch.tensor([[127.0, 3.0, -5.0]])
    assert relative_error(codes, pack(codes, W8A8), LayerFormat(W8A8)) == 0.0
    zeros = torch.zeros(2, 3)
    assert relative_error(zeros, pack(zeros, W8A8), LayerFormat(W8A8)) == 0.0
    nothing = {"weight": torch.zeros(1, 3, dtype=torch.int8), "weight_scale": torch.ones(1, 1)}
    assert relative_error(codes, nothing, LayerFormat(W8A8)) == 1.0


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e19, 1e30, 1e36])
@pytest.mark.parametrize("name", ["W4A16", "W8A8", "FP8_DYNAMIC"])
def test_the_relative_error_is_that_of_the_weight_at_any_size(name: str, size: float) -> None:
    """In float32 the squares of these vanish or overflow."""
    weight, layer_format = normal_weight(16, 256) * size, LayerFormat(SCHEMES[name])
    tensors = pack_linear(weight, layer_format)
    exact = weight.double()
    expected = (unpack_linear(tensors, layer_format).double() - exact).norm() / exact.norm()
    assert 0 < expected < 0.2
    assert relative_error(weight, tensors, layer_format) == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_relative_error_of_a_weight_below_all_scales_is_one(dtype: torch.dtype) -> None:
    weight = normal_weight(4, 128).to(dtype) * (1e-42 if dtype == torch.float32 else 1e-200)
    layer_format = LayerFormat(SCHEMES["W4A16"])
    assert relative_error(weight, pack_linear(weight, layer_format), layer_format) == 1.0
