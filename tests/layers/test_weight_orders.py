"""A layer whose weight lies in the order of a kernel computes the same, bit for bit, and nobody outside sees it."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from quant.algorithms.sparse24 import magnitude_mask
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES, Scheme
from quant.formats.tensors import LowRank, pack_linear, tensor_layout
from quant.kernels import prepacking
from quant.kernels.layouts import int4_fragments
from quant.kernels.weight_orders import LAYOUTS
from quant.layers.fused.linear import FusedLinear
from quant.layers.linear import QuantLinear
from quant.layers.replace import prepack
from tests.layers.quantized import quantized

N = 40
ODD = Scheme.parse({"weights": {"num_bits": 4, "type": "int", "strategy": "channel", "symmetric": False}})
FOUR_BIT = [
    *(LayerFormat(SCHEMES[name]) for name in ("W4A16", "W4A16_ASYM", "W4A8", "W4AFP8")),
    LayerFormat(ODD),
    LayerFormat(SCHEMES["W4A16_ASYM"], smoothed=True, rank=4),
]
SPARSE = [LayerFormat(SCHEMES[name], sparse=True) for name in ("UNQUANTIZED", "W8A8", "FP8", "FP8_DYNAMIC")]
CASES = [
    (layer_format, layout)
    for layer_formats, op in ((FOUR_BIT, "int4_mm"), (SPARSE, "sparse_scaled_mm"))
    for layer_format in layer_formats
    for layout in LAYOUTS[op][1:]
]
every = pytest.mark.parametrize(
    ("layer_format", "layout"),
    CASES,
    ids=[f"{layer_format.label}{'+' * layer_format.smoothed}-{layout}" for layer_format, layout in CASES],
)
sparse_floats = pytest.mark.parametrize("layout", LAYOUTS["sparse_scaled_mm"][1:])
Want = Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture
def want(monkeypatch: pytest.MonkeyPatch) -> Want:
    """Takes this machine for one with a kernel that reads an order of 8 and 16 bits; returns what it is asked."""

    def choose(layout: str) -> list[tuple[Any, ...]]:
        asked: list[tuple[Any, ...]] = []

        def wanted(op: str, dtype: torch.dtype, *rest: Any) -> str:
            asked.append((op, dtype, *rest))
            return LAYOUTS[op][0] if dtype.itemsize > 2 else layout

        monkeypatch.setattr(prepacking, "wanted", wanted)
        return asked

    return choose


def columns(layer_format: LayerFormat) -> int:
    """Groups of 128 fit; of sparse ones the last word of metadata is not full."""
    return 140 if layer_format.sparse else 256


def build(layer_format: LayerFormat, dtype: torch.dtype = torch.bfloat16) -> QuantLinear:
    torch.manual_seed(0)
    k = columns(layer_format)
    linear = nn.Linear(k, N).to(dtype)
    weight = linear.weight.detach()
    weight = weight * magnitude_mask(weight) if layer_format.sparse else weight
    beside: dict[str, Any] = {}
    if layer_format.scheme.has_static_input:
        beside["input_scale"] = torch.tensor([0.01])
    if layer_format.smoothed:
        beside["pre_quant_scale"] = torch.rand(k) + 0.5
    if layer_format.rank:
        beside["low_rank"] = LowRank(
            0.1 * torch.randn(N, layer_format.rank).to(dtype), torch.randn(layer_format.rank, k).to(dtype)
        )
    return quantized(linear, layer_format, pack_linear(weight, layer_format, **beside))


def both(
    layer_format: LayerFormat, layout: str, want: Want, dtype: torch.dtype = torch.bfloat16
) -> tuple[QuantLinear, ...]:
    """The same layer as this machine has it and in another order."""
    plain = build(layer_format, dtype)
    want(layout)
    packed = build(layer_format, dtype)
    assert packed.layout == layout != plain.layout
    return plain, packed


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.uint8) if x.itemsize == 1 else x


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """In names, order, shapes, dtypes and every bit."""
    return list(a) == list(b) and all(
        (a[key].shape, a[key].dtype) == (b[key].shape, b[key].dtype) and torch.equal(bits(a[key]), bits(b[key]))
        for key in a
    )


@every
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_output_is_the_same_bit_for_bit(
    layer_format: LayerFormat, layout: str, dtype: torch.dtype, want: Want
) -> None:
    plain, packed = both(layer_format, layout, want)
    for shape in ((5,), (2, 3), ()):
        x = torch.randn(*shape, columns(layer_format)).to(dtype)
        assert torch.equal(packed(x), plain(x))
        assert packed(x).dtype == dtype


@every
def test_the_state_is_that_of_the_checkpoint(layer_format: LayerFormat, layout: str, want: Want) -> None:
    plain, packed = both(layer_format, layout, want)
    assert same(packed.state_dict(prefix="a."), plain.state_dict(prefix="a."))
    assert packed.layout == layout
    assert all(tensor.is_contiguous() for tensor in packed.state_dict().values())


@every
@pytest.mark.parametrize("assign", [False, True])
def test_a_state_is_loaded(layer_format: LayerFormat, layout: str, assign: bool, want: Want) -> None:
    plain, packed = both(layer_format, layout, want)
    state = copy.deepcopy(plain.state_dict())
    for tensor in packed.held().values():
        if tensor is not None:
            tensor.zero_()
    assert packed.load_state_dict(copy.deepcopy(state), assign=assign) == ([], [])
    x = torch.randn(3, columns(layer_format)).bfloat16()
    assert packed.layout == layout
    assert torch.equal(packed(x), plain(x))
    with pytest.raises(RuntimeError, match="size mismatch for"):
        packed.load_state_dict({**state, "bias": torch.zeros(N + 1)})
    assert packed.layout == layout
    assert same(packed.state_dict(), state)
    empty = QuantLinear(columns(layer_format), N, layer_format, dtype=torch.bfloat16, device="meta").to_empty(
        device="cpu"
    )
    empty.load_state_dict(state)
    assert empty.layout == layout
    assert torch.equal(empty(x), plain(x))


@every
def test_casts_are_those_of_the_plain_layer(layer_format: LayerFormat, layout: str, want: Want) -> None:
    plain, packed = both(layer_format, layout, want)
    x = torch.randn(3, columns(layer_format))
    for cast in (torch.float16, torch.bfloat16, torch.float32, torch.bfloat16):
        plain.to(cast), packed.to(cast)
        wide = layer_format.scheme.weights is None and cast == torch.float32
        assert packed.layout == (LAYOUTS["sparse_scaled_mm"][0] if wide else layout)
        assert same(packed.state_dict(), plain.state_dict())
        assert torch.equal(packed(x.to(cast)), plain(x.to(cast)))
    layout_of_file = tensor_layout(layer_format, N, columns(layer_format))
    for name, tensor in packed.half().state_dict().items():
        follows = name == "bias" or layout_of_file[name][0] is None
        assert tensor.dtype == (torch.float16 if follows else layout_of_file[name][0])


@every
def test_what_changes_nothing_moves_nothing(layer_format: LayerFormat, layout: str, want: Want) -> None:
    _, packed = both(layer_format, layout, want)
    before = {name: tensor.detach() for name, tensor in packed.held().items()}
    packed.to("cpu")
    packed.to(torch.bfloat16)
    assert packed.prepack() is packed
    prepack(nn.Sequential(packed))
    after = packed.held()
    # What was there is held here, so that nothing new can lie in its place.
    assert {name: t.data_ptr() for name, t in after.items()} == {name: t.data_ptr() for name, t in before.items()}


@every
def test_an_order_is_no_image(layer_format: LayerFormat, layout: str, want: Want) -> None:
    """Four dimensions are enough for torch to put channels last."""
    plain, packed = both(layer_format, layout, want)
    packed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert all(tensor.is_contiguous() for tensor in packed.held().values() if tensor is not None)
    assert same(packed.state_dict(), plain.state_dict())


@every
def test_copies_and_files_keep_it(layer_format: LayerFormat, layout: str, want: Want) -> None:
    plain, packed = both(layer_format, layout, want)
    file = io.BytesIO()
    torch.save(packed, file)
    file.seek(0)
    x = torch.randn(3, columns(layer_format)).bfloat16()
    for other in (copy.deepcopy(packed), torch.load(file, weights_only=False)):
        assert other.layout == layout
        for tensor in other.held().values():
            if tensor is not None and tensor.is_floating_point() and tensor.ndim > 2:
                assert all(tensor.data_ptr() != b.data_ptr() for b in packed.held().values() if b is not None)
        assert torch.equal(other(x), plain(x))
        assert same(other.state_dict(), plain.state_dict())


@every
def test_where_no_kernel_reads_it_a_layer_is_plain_again(
    layer_format: LayerFormat, layout: str, want: Want, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, packed = both(layer_format, layout, want)
    monkeypatch.undo()  # as if it came from a GPU to this CPU
    packed.to("cpu")
    assert packed.layout == plain.layout == ("sparse24" if layer_format.sparse else "nibbles")
    assert same(packed.held(), plain.held())
    x = torch.randn(3, columns(layer_format)).bfloat16()
    assert torch.equal(packed(x), plain(x))


@every
def test_from_one_kernel_s_order_to_another_s(layer_format: LayerFormat, layout: str, want: Want) -> None:
    plain, packed = both(layer_format, layout, want)
    orders = LAYOUTS["sparse_scaled_mm" if layer_format.sparse else "int4_mm"]
    other = orders[3 - orders.index(layout)]
    want(other)
    packed.to("cpu")
    assert packed.layout == other
    x = torch.randn(3, columns(layer_format)).bfloat16()
    assert torch.equal(packed(x), plain(x))
    assert same(packed.state_dict(), plain.state_dict())


@every
def test_a_layer_without_memory_has_the_shapes_of_the_checkpoint(
    layer_format: LayerFormat, layout: str, want: Want
) -> None:
    plain, packed = both(layer_format, layout, want)
    nowhere = packed.to("meta")
    assert {key: (t.shape, t.dtype) for key, t in nowhere.state_dict().items()} == {
        key: (t.shape, t.dtype) for key, t in plain.state_dict().items()
    }
    assert nowhere.prepack().layout == layout


# Each weight in one of its orders, each order of some.
@pytest.mark.parametrize(("layer_format", "layout"), [case for place, case in enumerate(CASES) if place % 4 in (0, 3)])
def test_it_falls_under_one_graph(layer_format: LayerFormat, layout: str, want: Want) -> None:
    plain, packed = both(layer_format, layout, want)
    whole = torch.compile(packed, fullgraph=True, backend="aot_eager")
    for rows in (5, 9):
        x = torch.randn(2, rows, columns(layer_format)).bfloat16()
        assert torch.equal(whole(x), plain(x))


@pytest.mark.parametrize(("layer_format", "layout"), [case for case in CASES if not case[0].rank])
def test_a_fused_layer_takes_it_as_it_is(layer_format: LayerFormat, layout: str, want: Want) -> None:
    plain, packed = both(layer_format, layout, want)
    fused = FusedLinear.of(packed)
    assert fused.layout == layout
    x = torch.randn(3, columns(layer_format)).bfloat16()
    assert torch.equal(fused(x), plain(x))


@pytest.mark.parametrize(
    ("layer_format", "op", "dtype", "group"),
    [
        (LayerFormat(SCHEMES["W4A16"]), "int4_mm", torch.bfloat16, 128),
        (LayerFormat(SCHEMES["W4A8"]), "int4_mm", torch.int8, 128),
        (LayerFormat(SCHEMES["W4AFP8"]), "int4_mm", torch.float8_e4m3fn, 128),
        (LayerFormat(ODD), "int4_mm", torch.bfloat16, 0),
        (LayerFormat(SCHEMES["W8A8"], sparse=True), "sparse_scaled_mm", torch.int8, 0),
        (LayerFormat(SCHEMES["FP8"], sparse=True), "sparse_scaled_mm", torch.float8_e4m3fn, 0),
        (LayerFormat(SCHEMES["UNQUANTIZED"], sparse=True), "sparse_scaled_mm", torch.float16, 0),
    ],
    ids=lambda value: value.label if isinstance(value, LayerFormat) else "",
)
def test_what_is_asked_of_the_kernels(
    layer_format: LayerFormat, op: str, dtype: torch.dtype, group: int, want: Want
) -> None:
    """The dtype of the input as the op gets it decides which order."""
    asked = want(LAYOUTS[op][1])
    layer = build(layer_format, torch.float16)
    cpu = torch.device("cpu")
    expected = (op, dtype, N, columns(layer_format), cpu, group)
    assert {(*each, 0)[:6] for each in asked} == {expected}
    assert layer.layout == LAYOUTS[op][1]


def test_its_name_is_in_its_repr(want: Want) -> None:
    layer_format = LayerFormat(SCHEMES["W4A16"])
    plain, packed = both(layer_format, int4_fragments.NAME_16, want)
    says = "QuantLinear(in_features=256, out_features=40, bias=True, scheme=W4A16"
    assert (repr(plain), repr(packed)) == (f"{says})", f"{says}, layout=int4_fragments_16)")


def test_scales_and_zero_points_lie_by_block(want: Want) -> None:
    plain, packed = both(LayerFormat(SCHEMES["W4A16_ASYM"]), int4_fragments.NAME_16, want)
    assert packed.weight_scale.dtype == torch.bfloat16
    for name in ("weight_scale", "zero_point"):
        lanes, rows = (layer.held()[name] for layer in (packed, plain))
        assert lanes.shape == (2, 48)
        assert torch.equal(int4_fragments.unpack_groups(lanes, N), rows)
    assert list(packed.held()) == ["weight_codes", "weight_scale", "zero_point"]
