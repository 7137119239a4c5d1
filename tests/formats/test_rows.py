"""Rows of several layers together and apart: what packing all of them at once gives, since each row packs by itself."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from quant.formats import rows
from quant.formats.layer import LayerFormat
from quant.formats.table import format_of
from quant.formats.tensors import tensor_layout, unpack_linear
from quant.layers.linear import QuantLinear
from tests.layers.fused.layer_formats import EIGHT_BIT, LAYER_FORMATS, packed, same

EVERY_FORMAT = pytest.mark.parametrize("label", LAYER_FORMATS)
#: No multiples of the eight rows whose zero points share a word.
SIZES = (33, 20, 7)


def sizes(label: str) -> tuple[int, ...]:
    return (128, 256, 70) if label == "FP8_BLOCK" else SIZES


def width(label: str) -> int:
    return 76 if label in EIGHT_BIT or label.startswith("2:4") else 256


def layers(label: str) -> tuple[list[nn.Linear], list[QuantLinear]]:
    torch.manual_seed(0)
    plain = [nn.Linear(width(label), n) for n in sizes(label)]
    factor = torch.rand(width(label)) + 0.5
    return plain, [packed(linear, LAYER_FORMATS[label], factor=factor) for linear in plain]


def all_rows(plain: list[nn.Linear], label: str, factor: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """The state of one layer with the rows of all, packed as one."""
    one = nn.Linear(width(label), sum(sizes(label)))
    one.weight.data, one.bias.data = (
        torch.cat([getattr(x, leaf).detach() for x in plain]) for leaf in ("weight", "bias")
    )
    return packed(one, LAYER_FORMATS[label], factor=factor).state_dict()


@EVERY_FORMAT
def test_joined_rows_are_those_of_one_layer(label: str) -> None:
    plain, apart = layers(label)
    layer_format = apart[0].layer_format
    found = rows.joined([each.state_dict() for each in apart], layer_format, sizes(label))
    factor = apart[0].pre_quant_scale
    assert factor is not None
    if layer_format.scheme.weights is None or layer_format.scheme.weights.strategy != "tensor":
        assert same(found, all_rows(plain, label, factor))
        return
    # One scale each becomes one a row.
    assert found["weight_scale"].shape == (sum(sizes(label)), 1)
    tensors = {leaf: tensor for leaf, tensor in found.items() if leaf != "bias"}
    expected = torch.cat(
        [unpack_linear({k: v for k, v in x.state_dict().items() if k != "bias"}, layer_format) for x in apart]
    )
    assert torch.equal(unpack_linear(tensors, layer_format), expected)


@EVERY_FORMAT
def test_each_layer_gets_its_own_back(label: str) -> None:
    _, apart = layers(label)
    states = [each.state_dict() for each in apart]
    whole = rows.joined(states, apart[0].layer_format, sizes(label))
    for index, state in enumerate(states):
        part = rows.part(whole, apart[0].layer_format, sizes(label), index)
        assert same(part, state)
        assert all(tensor.is_contiguous() for tensor in part.values())
        for leaf in ("input_scale", "pre_quant_scale"):
            assert leaf not in part or part[leaf].data_ptr() != whole[leaf].data_ptr()


@EVERY_FORMAT
@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_layer_is_written_and_no_other(label: str, index: int) -> None:
    _, apart = layers(label)
    layer_format, given = apart[0].layer_format, sizes(label)
    states = [each.state_dict() for each in apart]
    whole = rows.joined(states, layer_format, given)
    torch.manual_seed(index + 1)
    other = packed(nn.Linear(width(label), given[index]), layer_format, factor=apart[0].pre_quant_scale).state_dict()
    for leaf, value in other.items():
        assert leaf in ("input_scale", "pre_quant_scale", "weight_shape") or not same(
            {leaf: value}, {leaf: states[index][leaf]}
        )
        rows.put(whole, layer_format, given, index, leaf, value)
    assert same(whole, rows.joined([*states[:index], other, *states[index + 1 :]], layer_format, given))


def test_blocks_that_reach_over_a_seam() -> None:
    blocks = format_of(LAYER_FORMATS["FP8_BLOCK"])
    assert blocks.seam(256) is None
    assert blocks.seam(200) == "has 200 rows, which end within a block of 128"
    assert [
        format_of(layer_format).seam(200) for label, layer_format in LAYER_FORMATS.items() if label != "FP8_BLOCK"
    ] == [None] * (len(LAYER_FORMATS) - 1)


def test_every_tensor_of_a_checkpoint_is_known() -> None:
    """A new one would be cut by rows, which may be wrong of it."""
    smoothed = LayerFormat(LAYER_FORMATS["W4A16"].scheme, smoothed=True)
    binned = LayerFormat(next(each.scheme for each in LAYER_FORMATS.values() if each.scheme.has_static_input), bins=2)
    every = (*LAYER_FORMATS.values(), smoothed, binned)
    leaves = {leaf for layer_format in every for leaf in tensor_layout(layer_format, 8, 256)}
    by_rows = {"weight", "weight_packed", "weight_scale"}
    assert leaves == {*by_rows, *rows.SHARED, "weight_zero_point", "weight_shape"}
