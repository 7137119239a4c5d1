"""The compiled loop against the passes of torch that define its arithmetic: every bit is the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.algorithms.clipping import SHRINKS, clipped_grid
from quant.algorithms.sparse24 import magnitude_mask
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.table import FORMATS, format_of
from quant.formats.tensors import RelativeError
from quant.kernels.cpu.encode_rows import SOURCES, encode_rows, unavailable

#: Schemes whose weights the loop encodes by scales of their own.
DENSE = ("FP8_DYNAMIC", "FP8_BLOCK", "W8A8", "W8A16", "W4A16", "W4A16_ASYM")
FALLING = tuple(sorted({*SHRINKS} - {1.0}, reverse=True))


def hard_rows(k: int) -> list[torch.Tensor]:
    """Rows that arithmetic finds hard: zeros, one sign, subnormal and huge values, ties of rounding and of sizes."""
    numbers = torch.arange(k)
    return [
        torch.zeros(k),
        torch.rand(k),
        -torch.rand(k),
        torch.full((k,), 1e-40),
        torch.randn(k) * 1e30,
        torch.randn(k) * 1e-38,
        numbers.remainder(9) - 4.0,
        torch.where(numbers % 4 == 0, -0.0, 448.0 / 2 ** (numbers % 17.0)),
    ]


def weights(rows: int, k: int, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Rows [rows, k] of every kind."""
    torch.manual_seed(seed)
    made = torch.randn(rows, k) * torch.rand(rows, 1) * torch.randn(1, k).exp()
    for i, hard in enumerate(hard_rows(k)[:rows]):
        made[i] = hard
    return made.to(dtype)


def agree(weight: torch.Tensor, scheme: str, *, mse: bool = False, sparse: bool = False) -> None:
    """Compares codes, scales, zero points and the error of all rows."""
    layer_format = LayerFormat(SCHEMES[scheme], sparse=sparse)
    kind = format_of(layer_format)
    encoding, weights_format = kind.encoding(), SCHEMES[scheme].weights
    assert encoding is not None and weights_format is not None
    pruned = weight.float()
    if sparse:
        pruned = pruned * magnitude_mask(pruned)
    grid = clipped_grid(pruned, weights_format) if mse else kind.grid(pruned)
    assert grid is not None
    scales = kind.scales(grid, *weight.shape)
    codes = kind.codes(pruned, scales)
    found = encode_rows(weight, replace(encoding, shrinks=FALLING if mse else ()))
    assert found is not None
    assert torch.equal(found.scale, grid.scale.reshape(found.scale.shape))
    if grid.zero_point is not None:
        assert torch.equal(found.zero, grid.zero_point.float())
    assert torch.equal(found.packed.view(-1), codes.contiguous().view(torch.uint8).view(-1))
    one, other = RelativeError(), RelativeError()
    one.add(weight.double(), kind.decode({kind.main: codes, **scales}))
    other.add_squares(float(found.lost.sum()), float(found.power.sum()))
    assert one.value == pytest.approx(other.value, rel=1e-6)


def test_there_is_a_compiler() -> None:
    """Else nothing below is tested, and this says why."""
    assert unavailable() is None


@settings(max_examples=25, deadline=None)
@given(
    scheme=st.sampled_from(DENSE),
    rows=st.sampled_from([1, 9, 128, 130]),
    parts=st.integers(1, 3),
    dtype=st.sampled_from(sorted(SOURCES, key=str)),
    seed=st.integers(0, 99),
)
def test_scales_by_the_range(scheme: str, rows: int, parts: int, dtype: torch.dtype, seed: int) -> None:
    agree(weights(rows, 128 * parts, dtype, seed), scheme)


@pytest.mark.parametrize("k", [1, 7, 33, 130])
@pytest.mark.parametrize("scheme", ["FP8_DYNAMIC", "FP8_BLOCK", "W8A8"])
def test_columns_that_fill_no_vector(scheme: str, k: int) -> None:
    agree(weights(140, k, torch.float32, k), scheme)


@pytest.mark.parametrize("k", [7, 12, 130])
@pytest.mark.parametrize(("bits", "symmetric"), [(4, True), (4, False), (8, True)])
def test_rows_of_packed_codes_end_in_zeros(bits: int, symmetric: bool, k: int) -> None:
    scheme = {"weights": {"num_bits": bits, "type": "int", "strategy": "channel", "symmetric": symmetric}}
    layer_format = LayerFormat(type(SCHEMES["W8A8"]).parse(scheme))
    kind, weight = format_of(layer_format), weights(9, k, torch.float32, k)
    encoding, grid = kind.encoding(), kind.grid(weight)
    assert encoding is not None
    found = encode_rows(weight, encoding)
    assert found is not None
    expected = kind.codes(weight, kind.scales(grid, 9, k))
    assert torch.equal(found.packed.view(-1), expected.view(torch.uint8).view(-1))


@settings(max_examples=10, deadline=None)
@given(
    scheme=st.sampled_from([name for name in DENSE if name != "FP8_BLOCK"]),
    dtype=st.sampled_from(sorted(SOURCES, key=str)),
    seed=st.integers(0, 99),
)
def test_scales_by_the_least_error(scheme: str, dtype: torch.dtype, seed: int) -> None:
    agree(weights(12, 384, dtype, seed), scheme, mse=True)


@settings(max_examples=10, deadline=None)
@given(scheme=st.sampled_from(["FP8_DYNAMIC", "W8A8"]), k=st.sampled_from([4, 36, 256]), seed=st.integers(0, 99))
def test_two_of_four(scheme: str, k: int, seed: int) -> None:
    agree(weights(40, k, torch.float32, seed), scheme, sparse=True)


def test_given_scales_are_used() -> None:
    weight, encoding = weights(9, 64, torch.float32, 0), format_of(LayerFormat(SCHEMES["W8A8"])).encoding()
    assert encoding is not None
    scale = torch.full((9, 1), 0.25)
    found = encode_rows(weight, encoding, scale)
    assert found is not None and found.scale is scale
    expected = (weight / 0.25).round().clamp(-127, 127).to(torch.int8)
    assert torch.equal(found.packed.view(torch.int8), expected)


@pytest.mark.parametrize("value", [float("nan"), -float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", sorted(SOURCES, key=str), ids=str)
def test_rows_that_are_not_finite_are_left_to_the_caller(value: float, dtype: torch.dtype) -> None:
    weight = torch.ones(5, 64, dtype=dtype)
    weight[3, 17] = value
    for scheme in DENSE[:3]:
        encoding = format_of(LayerFormat(SCHEMES[scheme])).encoding()
        assert encoding is not None
        assert encode_rows(weight, encoding) is None


def test_every_format_of_integers_or_e4m3_has_an_encoding() -> None:
    with_one = {each for each in FORMATS if each.packing is not None}
    assert {type(format_of(LayerFormat(SCHEMES[name]))) for name in DENSE} == with_one
