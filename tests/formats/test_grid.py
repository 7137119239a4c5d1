"""Grids: closed forms, nearest values, and compressed-tensors' own arithmetic for the same scales."""

from __future__ import annotations

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationScheme
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.formats.grid import ScalesByColumn, grid_of, scale_dtype, scale_shape
from quant.formats.int4 import Int4
from quant.formats.int8_weight_only import Int8WeightOnly
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme, TensorFormat
from quant.formats.table import format_of
from quant.formats.tensors import coded_weight, pack_linear, small_tensors, tensor_layout, unpack_linear
from tests.formats.weights import normal_weight

PRESETS = [scheme for scheme in SCHEMES.values() if scheme.weights is not None and not scheme.has_static_input]


def spelled(**weights: object) -> Scheme:
    return Scheme.parse({"weights": {"num_bits": 4, "type": "int", **weights}})


GROUPS = [
    *(
        spelled(strategy="group", group_size=size, symmetric=symmetric)
        for size in (32, 64)
        for symmetric in (True, False)
    ),
    spelled(strategy="channel"),
    spelled(strategy="channel", symmetric=False),
    spelled(num_bits=8, strategy="channel"),
]
every_format = pytest.mark.parametrize("scheme", [*PRESETS, *GROUPS], ids=lambda scheme: scheme.name)


@every_format
@pytest.mark.parametrize("n", [16, 19])
def test_the_layout_is_that_of_what_is_packed(scheme: Scheme, n: int) -> None:
    weight = normal_weight(n, 256)
    layer_format = LayerFormat(scheme)
    tensors = pack_linear(weight, layer_format)
    made = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    assert made == tensor_layout(layer_format, n, 256)
    small = small_tensors(weight, layer_format)
    main = format_of(layer_format).main
    assert small.keys() == made.keys() - {main}
    assert torch.equal(coded_weight(weight, layer_format, small).float(), tensors[main].float())


@every_format
def test_every_value_is_the_nearest_that_its_scale_has(scheme: Scheme) -> None:
    tensor_format = scheme.weights
    assert tensor_format is not None
    weight = normal_weight(130, 256, seed=4)
    grid = grid_of(weight, tensor_format)
    assert tuple(grid.scale.shape) == scale_shape(tensor_format, 130, 256)
    assert torch.equal(grid.scale, grid.scale.to(scale_dtype(tensor_format)).float())
    codes = grid.codes(weight)
    found = grid.values(codes)
    spread = grid.columns(130, 256)
    assert torch.equal(spread.round(weight, slice(None)), found)
    assert torch.equal(spread.round(weight[:, 7], 7), found[:, 7])
    twice = ScalesByColumn.joined([grid.by_column(130, 256)] * 2)
    for column in (0, 7, 129, 255):
        assert torch.equal(twice.round_(weight[:, column].repeat(2), column), found[:, column].repeat(2))
    assert torch.equal(grid.codes(found).float(), codes.float())
    step = spread.scale if tensor_format.type == "int" else (spread.scale * 2**-9).maximum(weight.abs() / 8)
    # Where a scale was rounded to bfloat16, or a zero point to a whole number, the largest values saturate.
    inside = torch.ones_like(weight, dtype=torch.bool) if tensor_format.num_bits == 8 else codes.abs() < 7
    assert ((found - weight).abs() <= step * 0.5001)[inside].all()


@pytest.mark.parametrize("scheme", GROUPS[:2], ids=lambda scheme: scheme.name)
def test_closed_form_of_groups(scheme: Scheme) -> None:
    assert scheme.weights is not None
    row = torch.tensor([[0.0, 7.0, -3.0, *[0.0] * 29, 0.0, 0.5, 3.5, *[0.0] * 29]])
    grid = grid_of(row, scheme.weights)
    if scheme.weights.symmetric:
        assert grid.scale.tolist() == [[1.0, 0.5]]
        assert grid.codes(row)[0, :3].tolist() == [0, 7, -3]
        assert grid.codes(row)[0, 32:35].tolist() == [0, 1, 7]
    else:
        assert grid.zero_point is not None
        assert grid.zero_point[0].tolist() == [-4, -8]  # 3 / (10 / 15) = 4.5 steps lie below 0, and none
        assert grid.values(grid.codes(row))[0, 0] == 0


def test_a_group_of_zeros_and_a_size_that_does_not_fit() -> None:
    tensor_format = SCHEMES["W4A16"].weights
    assert tensor_format is not None
    grid = grid_of(torch.zeros(2, 128), tensor_format)
    assert grid.scale.tolist() == [[1.0], [1.0]]
    with pytest.raises(ValueError, match="groups of 128 do not fit 320 columns"):
        grid_of(torch.zeros(2, 320), tensor_format)


@every_format
def test_compressed_tensors_reads_the_same_weight(scheme: Scheme) -> None:
    weight = normal_weight(24, 256, seed=3)
    tensors = pack_linear(weight, LayerFormat(scheme))
    their_scheme = QuantizationScheme.model_validate({"targets": ["Linear"], **scheme.to_dict()})
    compressor = BaseCompressor.get_value_from_registry(scheme.format)
    theirs = compressor.decompress(dict(tensors), their_scheme)["weight"]
    ours = unpack_linear(tensors, LayerFormat(scheme))
    # With scales of bfloat16 that library multiplies in bfloat16.
    assert torch.equal(theirs.float(), ours.to(theirs.dtype).float())


@settings(max_examples=40)
@given(n=st.integers(1, 9), k=st.integers(1, 70), bits=st.sampled_from([4, 8]), seed=st.integers(0, 2**16))
def test_packing_has_an_exact_inverse(n: int, k: int, bits: int, seed: int) -> None:
    low = -(2 ** (bits - 1))
    codes = torch.randint(low, -low, (n, k), generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    kind = Int4 if bits == 4 else Int8WeightOnly
    packed = kind.pack(codes)
    assert (packed.dtype, tuple(packed.shape)) == (torch.int32, (n, -(-k // (32 // bits))))
    assert torch.equal(kind.unpack(packed, k), codes)


def test_eight_bit_packing_is_that_of_compressed_tensors() -> None:
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32

    codes = torch.randint(-128, 128, (5, 13), dtype=torch.int8)
    assert torch.equal(Int8WeightOnly.pack(codes), pack_to_int32(codes, 8))


def test_formats_by_tensor_and_channel_are_those_of_eight_bits() -> None:
    weight = torch.tensor([[1.0, -4.0], [0.5, 0.25]])
    grid = grid_of(weight, TensorFormat(8, "int", "tensor"))
    assert grid.scale.tolist() == pytest.approx([4 / 127])
    assert grid.codes(weight).tolist() == [[32, -127], [16, 8]]
