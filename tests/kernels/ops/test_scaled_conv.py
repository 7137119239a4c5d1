"""`scaled_conv` against torch's own convolutions in float64 of what the codes stand for."""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from quant.kernels import choosing, ops, weight_orders
from quant.kernels.arguments import Int4Weight, Sparse24Weight
from quant.kernels.dispatch import Call, choose, only
from quant.kernels.layouts import aligned_rows, nibbles, sparse24
from quant.kernels.numerics import LARGEST_INT8_K
from quant.kernels.ops import conv_matmuls
from quant.kernels.windows import Window
from tests.kernels.weight_cases import FP8, activations, generator_of, group_scales, nibble_codes, spread, weight_24

CONVOLUTIONS: dict[int, Callable[..., torch.Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
PLAIN: dict[str, Any] = {"kernel_size": [3, 3], "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1]}
#: Its name in the package is the function's.
MODULE = importlib.import_module("quant.kernels.ops.scaled_conv")
#: All ways to run, the slow definition last.
WAYS = [(), ("unfolded_matmuls", "torch._int_mm", "reference"), ("reference",)]


def convolved(a: torch.Tensor, matrix: torch.Tensor, window: Window) -> torch.Tensor:
    """torch's convolution in float64 of a [B, *spatial, C] and a matrix [N, taps x C]: [B, *out_spatial, N]."""
    weight = matrix.double().view(len(matrix), *window.kernel_size, a.shape[-1]).movedim(-1, 1)
    conv = CONVOLUTIONS[len(window.kernel_size)]
    rest = {"stride": window.stride, "padding": window.padding, "dilation": window.dilation}
    return conv(a.double().movedim(-1, 1), weight, **rest).movedim(1, -1)


def inputs(shape: tuple[int, ...], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    return activations(math.prod(shape[:-1]), shape[-1], dtype, generator).view(shape)


class Case(NamedTuple):
    """A convolution whose weight is of one of the matmuls.

    Attributes:
        a: its input.
        weight: arguments of the op.
        matrix: float64 [N, K]: what the weight stands for, without its scale by row.
        b_scale: float32 [N, 1]: that scale, ones where it has none.
    """

    a: torch.Tensor
    weight: dict[str, Any]
    matrix: torch.Tensor
    b_scale: torch.Tensor


def case(kind: str, shape: tuple[int, ...], n: int, taps: int, layout: str | None = None) -> Case:
    """Of a kind "INPUT x WEIGHT", the weight packed or sparse in an order."""
    generator = generator_of(len(kind), n, *shape)
    dtypes = {"int8": torch.int8, "fp8": FP8, "bf16": torch.bfloat16, "fp32": torch.float32}
    name, numbers = kind.split(" x ")
    dtype, k = dtypes[name], taps * shape[-1]
    a, scale, one = inputs(shape, dtype, generator), torch.rand(n, 1, generator=generator) + 0.1, torch.ones(n, 1)
    if numbers == "dense":
        b = activations(n, k, dtype, generator)
        return Case(a, {"b": b, "b_scale": scale}, b.double(), scale)
    if numbers == "24":
        b = weight_24(n, k, dtype, generator)
        packed = weight_orders.packed(Sparse24Weight(*sparse24.compress(b), n), layout or sparse24.NAME, k)
        by_row = scale if name in ("int8", "fp8") else None
        weight = {"b": packed.values, "b_scale": by_row, "b_meta": packed.meta, "layout": layout, "n": n}
        return Case(a, weight, b.double(), one if by_row is None else by_row)
    groups = group_scales(n, taps, torch.bfloat16, generator)
    if numbers == "int8":
        b = activations(n, k, torch.int8, generator)
        return Case(a, {"b": b, "b_scale": groups}, (b * spread(groups, k)).to(dtype).double(), one)
    codes = nibble_codes(n, k, generator)
    zero = nibble_codes(n, taps, generator) if numbers == "int4 with zeros" else None
    lanes = weight_orders.packed(Int4Weight(nibbles.pack(codes), groups, zero, n), layout or nibbles.NAME, k)
    matrix = (codes - spread(torch.zeros(n, taps) if zero is None else zero, k)) * spread(groups, k)
    matrix = matrix if name in ("int8", "fp8") else matrix.float().to(dtype).double()
    return Case(
        a, {"b": lanes.packed, "b_scale": lanes.scale, "b_zero": lanes.zero, "layout": layout, "n": n}, matrix, one
    )


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[tuple[int, ...], Window]:
    """An input's shape, 1 to 3 spatial dimensions, and a window that fits in it."""
    dimensions = draw(st.integers(1, 3))

    def numbers(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw(st.lists(st.integers(least, most), min_size=dimensions, max_size=dimensions)))

    window = Window(numbers(1, 3), numbers(1, 3), numbers(0, 2), numbers(1, 2))
    sizes = [draw(st.integers(max(1, e - 2 * p), 6)) for e, p in zip(window.extents, window.padding, strict=True)]
    return (draw(st.integers(1, 3)), *sizes, draw(st.sampled_from([1, 3, 8]))), window


@settings(max_examples=40, deadline=None)
@given(convolutions(), st.booleans(), st.integers(1, 200))
def test_int8_is_exact_in_integers(drawn: tuple[tuple[int, ...], Window], static: bool, most: int) -> None:
    shape, window = drawn
    made = case("int8 x dense", shape, 5, window.taps)
    a_scale = torch.rand(1 if static else shape[0], 1) + 0.1
    by_sample = a_scale.view(-1, *[1] * (len(shape) - 1))
    expected = convolved(made.a, made.matrix, window).float() * by_sample * made.b_scale.view(-1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MODULE, "PIECE_BYTES", most)  # one window at a time, or a few
        for way in WAYS:
            with only(*way):
                found = ops.scaled_conv(made.a, a_scale, **made.weight, **window._asdict(), out_dtype=torch.float32)
            assert torch.equal(found, expected)
            assert found.is_contiguous()


KINDS = [
    *("fp8 x dense", "fp8 x 24", "fp8 x int4", "int8 x int4", "int8 x 24"),
    *("bf16 x int8", "bf16 x int4", "bf16 x int4 with zeros", "bf16 x 24", "fp32 x int8", "fp32 x int4"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_weight_within_what_float32_sums_may_lose(kind: str, way: tuple[str, ...]) -> None:
    window = Window((3, 2), (1, 2), (1, 0), (1, 2))
    shape, n = (2, 5, 6, 16), 7
    made, bias = case(kind, shape, n, window.taps), torch.randn(n)
    a_scale = torch.rand(2, 1) + 0.1 if made.a.dtype in (torch.int8, FP8) else None
    by_sample = torch.ones(1) if a_scale is None else a_scale.view(2, 1, 1, 1)
    with only(*way):
        found = ops.scaled_conv(made.a, a_scale, **made.weight, **window._asdict(), bias=bias, out_dtype=torch.float32)
    scales = by_sample.double() * made.b_scale.view(-1)
    exact = convolved(made.a, made.matrix, window) * scales + bias
    size = convolved(made.a.double().abs(), made.matrix.abs(), window) * scales + bias.abs()
    k = window.taps * shape[-1]
    assert found.shape == exact.shape == (2, 5, 2, n)
    # Each of the K additions, those of groups and bias, and three scales may round.
    assert ((found - exact).abs() <= (k + window.taps + 5) * 2.0**-24 * size).all()
    assert exact.std() > 0.01
    # The cast is the last.
    with only(*way):
        cast = ops.scaled_conv(made.a, a_scale, **made.weight, **window._asdict(), bias=bias, out_dtype=torch.bfloat16)
    assert torch.equal(cast, found.bfloat16())


@pytest.mark.parametrize(
    ("kind", "layouts"),
    [("int8 x 24", weight_orders.SPARSE24), ("bf16 x 24", weight_orders.SPARSE24)]
    + [(kind, weight_orders.INT4) for kind in ("int8 x int4", "fp8 x int4", "bf16 x int4 with zeros")],
)
def test_every_order_of_the_weight_gives_the_same_bits(kind: str, layouts: tuple[str, ...]) -> None:
    def run(layout: str | None) -> torch.Tensor:
        made = case(kind, (2, 4, 4, 16), 10, 9, layout)
        a_scale = None if kind.startswith("bf16") else torch.ones(1, 1)
        return ops.scaled_conv(made.a, a_scale, **made.weight, **PLAIN, out_dtype=torch.float32)

    assert all(torch.equal(run(layout), run(None)) for layout in layouts)


@pytest.mark.parametrize("dtype", [torch.int8, FP8])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_rows_of_the_weight_may_be_padded_to_whole_16_bytes(dtype: torch.dtype, way: tuple[str, ...]) -> None:
    made = case("int8 x dense" if dtype == torch.int8 else "fp8 x dense", (2, 4, 4, 5), 3, 9)
    rest: dict[str, Any] = {**PLAIN, "b_scale": made.b_scale, "out_dtype": torch.float32}
    wide = aligned_rows.pack(made.weight["b"])
    assert wide.shape == (3, 48)
    with only(*way):
        narrow = ops.scaled_conv(made.a, torch.ones(1), made.weight["b"], **rest)
        assert torch.allclose(ops.scaled_conv(made.a, torch.ones(1), wide, **rest), narrow, rtol=1e-5)


def test_blocks_of_scales_run_unfolded() -> None:
    made = case("fp8 x dense", (1, 4, 4, 128), 130, 9)
    blocks = torch.rand(2, 9, generator=generator_of(1)) + 0.1
    spread_out = blocks.repeat_interleave(128, 0)[:130].repeat_interleave(128, 1).double()
    found = ops.scaled_conv(made.a, torch.ones(1, 1), made.weight["b"], blocks, **PLAIN, out_dtype=torch.float32)
    window = Window(*(tuple(each) for each in PLAIN.values()))
    size = convolved(made.a.double().abs(), made.matrix.abs() * spread_out, window)
    assert ((found - convolved(made.a, made.matrix * spread_out, window)).abs() <= 2.0**-13 * size).all()


@pytest.mark.parametrize("kind", ["int8 x dense", "fp8 x dense", "bf16 x int4"])
def test_strides_of_the_input_and_no_samples(kind: str) -> None:
    made = case(kind, (2, 4, 5, 8), 3, 9)
    a_scale = None if kind.startswith("bf16") else torch.tensor([[0.5], [2.0]])

    def run(a: torch.Tensor, a_scale: torch.Tensor | None) -> torch.Tensor:
        return ops.scaled_conv(a, a_scale, **made.weight, **PLAIN, out_dtype=torch.bfloat16)

    whole = run(made.a, a_scale)
    first = torch.empty(2, 8, 4, 5).to(made.a.dtype).movedim(1, -1).copy_(made.a)
    assert not first.is_contiguous()
    assert torch.equal(run(first, a_scale), whole)
    assert torch.equal(run(made.a[1:], None if a_scale is None else a_scale[1:]), whole[1:])
    assert run(made.a[:0], None if a_scale is None else a_scale[:0]).shape == (0, 4, 5, 3)


@pytest.mark.parametrize("kind", ["int8 x dense", "bf16 x int8"])
def test_a_pointwise_convolution_is_the_matmul_of_its_input_as_it_lies(kind: str) -> None:
    made = case(kind, (2, 3, 4, 5, 8), 6, 1)
    out: dict[str, Any] = {"bias": torch.randn(6), "out_dtype": torch.float16}
    window = Window((1, 1, 1), (1, 1, 1), (0, 0, 0), (1, 1, 1))
    rows, a_scale = made.a.view(-1, 8), None
    if kind.startswith("bf16"):
        expected = ops.int8_mm(rows, **made.weight, **out)
    else:
        a_scale = torch.tensor([[0.5], [2.0]])
        expected = ops.scaled_mm(rows, a_scale.repeat_interleave(60, 0), **made.weight, **out)
    with only("reference" if a_scale is None else "torch._int_mm"):  # nothing of its own
        found = ops.scaled_conv(made.a, a_scale, **made.weight, **window._asdict(), **out)
    assert torch.equal(found.view(-1, 6), expected)
    assert window.views(window.padded(made.a)).reshape(-1, 8).data_ptr() == made.a.data_ptr()


ARGUMENTS = ("b", "b_scale", "b_zero", "b_meta", "layout", "n")


@pytest.mark.parametrize("kind", ["int8 x dense", "fp8 x dense", "bf16 x int8", "int8 x int4", "bf16 x 24"])
def test_opcheck(kind: str) -> None:
    made = case(kind, (2, 4, 4, 8), 3, 9)
    a_scale = None if kind.startswith("bf16") else torch.rand(2, 1)
    arguments = (made.a, a_scale, *(made.weight.get(name) for name in ARGUMENTS), *PLAIN.values(), torch.ones(3))
    # torch compares inputs before and after with allclose, which it has not for FP8 on a CPU.
    tests = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    checks = tests if made.a.dtype == FP8 else ("test_schema", *tests)
    torch.library.opcheck(torch.ops.quant.scaled_conv.default, (*arguments, torch.bfloat16), test_utils=checks)


class Temporal(torch.nn.Module):
    """A convolution over frames, then one over pixels, with one scale a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.over_frames = case("int8 x dense", (1, 8), 8, 3).weight
        self.over_pixels = case("bf16 x int4", (1, 8), 6, 9).weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        codes, scale = ops.quantize_rows(x.flatten(1), torch.int8)
        over: dict[str, Any] = {"kernel_size": [3, 1, 1], "stride": [1] * 3, "padding": [1, 0, 0], "dilation": [1] * 3}
        x = ops.scaled_conv(codes.view_as(x), scale, **self.over_frames, **over, out_dtype=x.dtype)
        return ops.scaled_conv(x.flatten(0, 1), None, **self.over_pixels, **PLAIN, out_dtype=x.dtype)


def test_compiles_into_one_graph_for_every_number_of_frames() -> None:
    layer = Temporal()
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for frames in (5, 7, 11):
        x = torch.randn(2, frames, 13, 17, 8).bfloat16()
        assert torch.equal(compiled(x), layer(x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_what_runs_where() -> None:
    call = Call("scaled_conv", "cpu", torch.int8, m=64, n=64, k=64)
    assert choose(call).name == "unfolded_matmuls"
    for dtype in (FP8, torch.bfloat16):
        assert choose(Call("scaled_conv", "cpu", dtype, m=64, n=64, k=64)).name == "float32_matmuls"
    for other in ({"layout": nibbles.NAME}, {"group": 32}, {"block_scales": True}):  # sums that are not one product
        assert choose(Call("scaled_conv", "cpu", FP8, m=64, n=64, k=64, **other)).name == "unfolded_matmuls"
    gpu = Call("scaled_conv", "cuda", torch.int8, m=64, n=64, k=64, capability=(9, 0))
    choosing._warn.cache_clear()
    with pytest.warns(
        UserWarning, match="scaled_conv runs by unfolded_matmuls, not by a kernel of quant: it has none for"
    ):
        assert choosing.chosen(gpu, MODULE.OP.implementations()).name == "unfolded_matmuls"
    with warnings.catch_warnings(action="error"):  # only once
        choosing.chosen(gpu, MODULE.OP.implementations())
    choosing._warn.cache_clear()


GOOD: dict[str, Any] = {
    "a": torch.zeros(2, 4, 4, 3, dtype=torch.int8),
    "a_scale": torch.ones(2, 1),
    "b": torch.zeros(6, 27, dtype=torch.int8),
    "b_scale": torch.ones(6, 1),
    **PLAIN,
    "out_dtype": torch.float32,
}
FLOATS = {"a": GOOD["a"].float(), "a_scale": None}
PACKED = {**FLOATS, "b": torch.zeros(6, 4, dtype=torch.int32)}
BAD: list[tuple[dict[str, Any], str]] = [
    ({"a": torch.zeros(4, 3).char()}, r"a must be \[B, \*spatial, C\] of 1 to 3 spatial dimensions, got \[4, 3\]"),
    ({"a": torch.zeros(1, 1, 1, 4, 4, 3).char()}, "1 to 3 spatial dimensions"),
    ({"a": torch.zeros(2, 4, 4, 0).char()}, "1 to 3 spatial dimensions"),
    ({"a": GOOD["a"].double(), "a_scale": None}, "a must be int8, .* or float16, got torch.float64"),
    ({"a": GOOD["a"].float()}, "a_scale goes with codes and only with them, a is torch.float32"),
    ({"a_scale": None}, "a_scale goes with codes and only with them, a is torch.int8"),
    ({"a_scale": torch.ones(4, 1)}, r"one element or one a sample, \[2, 1\], got \[4, 1\]"),
    ({"a_scale": torch.ones(2)}, "one a sample"),
    ({"a_scale": torch.ones(2, 1).half()}, "a_scale must be float32, .* of torch.float16"),
    ({"a_scale": torch.ones(2, 1, device="meta")}, "a_scale is on meta"),
    ({"kernel_size": [3]}, "kernel_size must be 2 whole numbers from 1, one for each spatial dimension .* got"),
    ({"kernel_size": [3, 0]}, r"kernel_size must be 2 whole numbers from 1.*got \[3, 0\]"),
    ({"stride": [0, 1]}, "stride must be 2 whole numbers from 1"),
    ({"padding": [-1, 1]}, "padding must be 2 whole numbers from 0"),
    ({"dilation": [1, 1, 1]}, "dilation must be 2 whole numbers from 1"),
    ({"dilation": [3, 1]}, r"a window of \[7, 3\] does not fit in a \[2, 4, 4, 3\] with \[1, 1\] zeros"),
    ({"b": torch.zeros(6, 26).char()}, r"b must be \[N, 27\], \[3, 3\] taps of 3 channels, got \[6, 26\]"),
    ({"b": torch.zeros(27).char()}, r"b \[N, K\]"),
    ({"b": torch.zeros(()).char()}, r"b \[N, K\]"),
    ({"b": torch.zeros(0, 27).char(), "b_scale": torch.ones(1)}, "a weight has rows"),
    ({"b": torch.zeros(6, 27).to(FP8)}, "both be int8 or both float8_e4m3fn"),
    ({"b": torch.zeros(6, 27, dtype=torch.int8, device="meta")}, "b is on meta"),
    ({"b_scale": None}, r"a weight \[6, 27\] of torch.int8 needs a b_scale"),
    ({"b_scale": torch.ones(5, 1)}, "b_scale must have 1 or N = 6 elements"),
    ({"b_zero": torch.zeros(6, 1).char()}, r"a weight \[6, 27\] of torch.int8 has no b_zero"),
    ({"layout": "nibbles"}, "of torch.int8 has no layout"),
    ({"bias": torch.ones(5)}, r"bias must have the shape \[6\]"),
    ({"out_dtype": torch.int8}, "out_dtype must be float32, bfloat16 or float16, got torch.int8"),
    ({**FLOATS, "b": torch.zeros(6, 26).char()}, r"b must be int8 \[N, 27\], got \[6, 26\]"),
    ({**FLOATS, "b_scale": torch.ones(6, 2)}, "b_scale must be .* that divides K = 27"),
    ({**PACKED, "b": torch.zeros(6, 3).int()}, r"b_packed must be int32 \[N, 4\] for K = 27, got \[6, 3\]"),
    ({**PACKED, "n": 5}, "n must be the weight's 6 rows, got 5"),
    ({**PACKED, "layout": "lanes"}, "no order of a weight is called 'lanes'"),
    ({"b_meta": torch.zeros(6, 4).byte()}, "K must be a multiple of 4, got 27"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_what_does_not_fit_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=f"^scaled_conv: .*{says}"):
        ops.scaled_conv(**{**GOOD, **change})


def test_what_is_refused_of_one_is_taken_of_another() -> None:
    for change in ({}, FLOATS, PACKED, {"a_scale": torch.ones(())}):
        assert ops.scaled_conv(**{**GOOD, **change}).shape == (2, 4, 4, 6)


def test_sums_that_could_overflow_are_refused() -> None:
    channels = LARGEST_INT8_K // 3
    one: dict[str, Any] = {"kernel_size": [3], "stride": [1], "padding": [1], "dilation": [1]}
    for c in (channels, channels + 1):
        a, b = torch.zeros(1, 2, c, dtype=torch.int8), torch.zeros(1, 3 * c, dtype=torch.int8)
        if 3 * c <= LARGEST_INT8_K:
            assert ops.scaled_conv(a, torch.ones(1), b, torch.ones(1), **one, out_dtype=torch.float32).shape == (
                1,
                2,
                1,
            )
        else:
            with pytest.raises(ValueError, match=f"K = {3 * c} could overflow the INT32 sum; at most {LARGEST_INT8_K}"):
                ops.scaled_conv(a, torch.ones(1), b, torch.ones(1), **one, out_dtype=torch.float32)


def test_each_weight_has_its_matmul() -> None:
    def named(b: torch.Tensor, dtype: torch.dtype, meta: torch.Tensor | None = None) -> str:
        return conv_matmuls.matmul_of(conv_matmuls.Weight(b, None, None, meta, None, None), dtype).op.name

    int8, int32 = torch.zeros(1, 1).char(), torch.zeros(1, 1).int()
    assert [named(int8, torch.int8), named(int8, torch.bfloat16)] == ["scaled_mm", "int8_mm"]
    assert named(int32, torch.int8) == named(int32, torch.float32) == "int4_mm"
    assert named(int8, torch.int8, int8) == "sparse_scaled_mm"
