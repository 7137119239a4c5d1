"""A prepacked layer computes the same, bit for bit, and nobody outside sees that its weight lies otherwise."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from quant.formats.base import ROW_MAJOR
from quant.formats.dense8 import Dense8
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import pack_linear
from quant.kernels.layouts import aligned_rows
from quant.layers.linear import QuantLinear
from quant.layers.replace import prepack
from tests.layers.quantized import quantized

EIGHT_BIT = ("FP8_DYNAMIC", "FP8", "W8A8")


class OfKernels(Dense8):
    """Takes the CPU for a GPU."""

    def wanted_order(self, tensors: Mapping[str, torch.Tensor], n: int, k: int, device: torch.device) -> str:
        return ROW_MAJOR if k == aligned_rows.width(k) else aligned_rows.NAME


class OnGpu(QuantLinear):
    """Its weight is always in the order of the kernels."""

    def __init__(self, in_features: int, out_features: int, layer_format: LayerFormat, **rest: Any) -> None:
        super().__init__(in_features, out_features, layer_format, **rest)
        self.weight_format = OfKernels(layer_format.scheme)


class Elsewhere(torch.Tensor):
    """Says that it is on a GPU."""

    device = torch.device("cuda")


def layers(name: str = "W8A8", k: int = 77, *, smoothed: bool = True) -> tuple[QuantLinear, OnGpu]:
    """The same layer, row-major and prepacked."""
    torch.manual_seed(0)
    linear, layer_format = nn.Linear(k, 33), LayerFormat(SCHEMES[name])
    tensors = pack_linear(
        linear.weight.detach(),
        layer_format,
        input_scale=torch.tensor([0.02]) if layer_format.scheme.has_static_input else None,
        pre_quant_scale=torch.rand(k) + 0.5 if smoothed else None,
    )
    plain, packed = (quantized(linear, layer_format, tensors, cls=kind) for kind in (QuantLinear, OnGpu))
    assert isinstance(packed, OnGpu)
    return plain, packed


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """In shape, dtype and every bit."""
    bits = [x.contiguous().view(torch.uint8) if x.itemsize == 1 else x for x in (a, b)]
    return (a.shape, a.dtype) == (b.shape, b.dtype) and torch.equal(*bits)


@pytest.mark.parametrize("k", [1, 16, 77, 80, 150])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 2), (1, 2, 1, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_output_is_the_same_bit_for_bit(dtype: torch.dtype, shape: tuple[int, ...], k: int) -> None:
    plain, packed = layers("W8A8", k)
    assert packed.weight.shape == (33, -(-k // 16) * 16)
    x = torch.randn(*shape, k).to(dtype)
    assert same(packed(x), plain(x))


@pytest.mark.parametrize("name", ["FP8", "FP8_DYNAMIC"])
def test_fp8_is_the_same_but_for_the_order_of_its_sums(name: str) -> None:
    """A CPU's matmul of another K adds in another order: products are exact, sums of 77 are off by 77 * 2**-24."""
    plain, packed = layers(name, smoothed=False)
    x = torch.randn(9, 77)
    magnitudes = x.abs() @ (plain.weight.float() * plain.weight_scale).abs().T
    # Inputs were rounded to e4m3, by a sixteenth at most; two sums differ by the error of both.
    assert ((packed(x) - plain(x)).abs() <= 2 * 77 * 2.0**-24 * (magnitudes * 1.07 + 1)).all()


def test_the_layout_has_a_name() -> None:
    plain, packed = layers()
    assert (plain.layout, packed.layout) == ("row_major", "aligned_rows")
    assert [layer.layout for layer in layers(k=80)] == ["row_major", "row_major"]


def test_a_weight_that_fits_is_not_copied() -> None:
    layer, _ = layers(k=80)
    layer.place("weight", layer.weight.data.as_subclass(Elsewhere))
    before = layer.weight
    assert layer.prepack() is layer
    assert layer.weight is before


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_the_state_is_that_of_the_checkpoint(name: str) -> None:
    plain, packed = layers(name)
    stored, found = plain.state_dict(prefix="a."), packed.state_dict(prefix="a.")
    assert list(found) == list(stored)
    assert all(same(found[key], stored[key]) and found[key].is_contiguous() for key in stored)
    assert packed.layout == "aligned_rows"


@pytest.mark.parametrize("assign", [False, True])
def test_a_state_is_loaded_into_a_prepacked_layer(assign: bool) -> None:
    plain, _ = layers()
    _, packed = layers()
    packed.weight.zero_()
    before = copy.deepcopy(plain.state_dict())
    assert packed.load_state_dict(plain.state_dict(), assign=assign) == ([], [])
    assert packed.layout == "aligned_rows"
    x = torch.randn(4, 77)
    assert same(packed(x), plain(x))
    packed.weight.zero_()  # its own memory
    assert all(same(plain.state_dict()[key], before[key]) for key in before)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    plain, packed = layers()
    wide = {**plain.state_dict(), "weight": torch.zeros(33, 80, dtype=torch.int8)}
    with pytest.raises(RuntimeError, match="size mismatch for weight"):
        packed.load_state_dict(wide)
    assert packed.load_state_dict({}, strict=False).missing_keys
    x = torch.randn(4, 77)
    assert packed.layout == "aligned_rows"
    assert same(packed(x), plain(x))


def test_an_empty_layer_is_filled_and_then_prepacked() -> None:
    plain, _ = layers()
    empty = OnGpu(77, 33, LayerFormat(SCHEMES["W8A8"], smoothed=True), device="meta").to_empty(device="cpu")
    assert empty.layout == ROW_MAJOR
    empty.load_state_dict(plain.state_dict())
    assert empty.layout == "aligned_rows"
    x = torch.randn(4, 77)
    assert same(empty(x), plain(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", EIGHT_BIT)
def test_a_cast_keeps_the_packed_weight(name: str, dtype: torch.dtype) -> None:
    plain, packed = layers(name)
    before = packed.weight.clone()
    packed.to(dtype)
    assert packed.layout == "aligned_rows"
    assert same(packed.weight, before)
    x = torch.randn(4, 77).to(dtype)
    assert torch.allclose(packed(x), plain.to(dtype)(x), rtol=2.0**-6, atol=1e-2)


def test_copies_and_files_keep_it() -> None:
    plain, packed = layers()
    file = io.BytesIO()
    torch.save(packed, file)
    file.seek(0)
    x = torch.randn(4, 77)
    for other in (copy.deepcopy(packed), torch.load(file, weights_only=False)):
        assert other.layout == "aligned_rows"
        assert other.weight.data_ptr() != packed.weight.data_ptr()
        assert same(other(x), plain(x))


def test_a_layer_that_comes_to_a_cpu_is_row_major_again() -> None:
    plain, moved = layers()
    moved.weight_format = plain.weight_format
    moved.to("cpu")
    assert moved.layout == "row_major"
    assert same(moved.weight, plain.weight)


def test_tensors_that_were_put_in_by_hand() -> None:
    first, inner = layers()
    model = nn.Sequential(first, nn.ModuleDict({"inner": inner}), nn.Linear(3, 3))
    first.place("weight", aligned_rows.pack(first.weight))
    inner.place("weight", aligned_rows.unpack(inner.weight, 77))
    first.layout, inner.layout = aligned_rows.NAME, ROW_MAJOR
    prepack(model)
    assert (first.layout, inner.layout) == ("row_major", "aligned_rows")


def test_on_a_gpu_the_weight_is_packed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pack = aligned_rows.pack
    monkeypatch.setattr(
        aligned_rows, "pack", lambda codes: pack(codes.as_subclass(torch.Tensor)).as_subclass(Elsewhere)
    )
    layer, _ = layers()
    expected = pack(layer.weight)
    layer.place("weight", layer.weight.data.as_subclass(Elsewhere))
    once = layer.prepack().weight
    assert same(once.as_subclass(torch.Tensor), expected)
    assert layer.prepack().weight is once


def test_a_prepacked_layer_compiles_into_one_graph() -> None:
    plain, packed = layers()
    whole = torch.compile(packed, fullgraph=True, backend="aot_eager")
    for rows in (4, 9):
        x = torch.randn(rows, 77)
        assert same(whole(x), plain(x))
