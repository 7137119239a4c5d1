"""`int4_mm` and `int8_mm` against sums in float64, loops in integers and torch's own linear layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from quant.kernels import ops, weight_orders
from quant.kernels.arguments import Epilogue, Int4Weight
from quant.kernels.dispatch import Call, choose, implementations, only
from quant.kernels.layouts import nibbles
from quant.kernels.numerics import encode
from quant.kernels.ops.int4_mm import reference as int4_mm_reference
from quant.kernels.ops.int8_mm import reference as int8_mm_reference
from tests.kernels.weight_cases import FLOATS, FP8, activations, generator_of, group_scales, nibble_codes, spread

CODES = [torch.int8, FP8]
#: M, K, N, G: single rows, columns and elements, a K that is no multiple of 8, groups of 8 and more.
SIZES = [(5, 128, 7, 4), (1, 4, 3, 1), (3, 13, 1, 1), (2, 1, 2, 1), (17, 320, 6, 40), (4, 96, 9, 3)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("scale_dtype", FLOATS)
@pytest.mark.parametrize("asymmetric", [False, True])
def test_floats_times_the_weight_rounded_to_their_dtype(
    size: tuple[int, int, int, int], dtype: torch.dtype, scale_dtype: torch.dtype, asymmetric: bool
) -> None:
    m, k, n, groups = size
    generator = generator_of(*size)
    a, codes = activations(m, k, dtype, generator), nibble_codes(n, k, generator)
    scale = group_scales(n, groups, scale_dtype, generator)
    zero = nibble_codes(n, groups, generator) if asymmetric else None
    found = ops.int4_mm(a, pack_to_int32(codes, 4), scale, zero, out_dtype=torch.float32)
    steps = codes.double() if zero is None else codes.double() - spread(zero, k)
    # A product of 5 bits and 24 is exact in float64, so this rounds to float32 once, then to a's dtype.
    weight = (steps * spread(scale, k)).float().to(dtype)
    assert torch.equal(found, F.linear(a.float(), weight.float()))
    exact = a.double() @ weight.double().T
    bound = (k + 1) * 2.0**-24 * (a.double().abs() @ weight.double().abs().T)
    assert ((found - exact).abs() <= bound).all()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_8_bit_weights_for_floats(size: tuple[int, int, int, int], dtype: torch.dtype) -> None:
    m, k, n, groups = size
    generator = generator_of(*size, 8)
    a = activations(m, k, dtype, generator)
    codes = torch.randint(-128, 128, (n, k), dtype=torch.int8, generator=generator)
    scale = group_scales(n, groups, torch.float32, generator)
    weight = (codes.double() * spread(scale, k)).float().to(dtype)
    found = ops.int8_mm(a, codes, scale, out_dtype=dtype)
    assert torch.equal(found, F.linear(a.float(), weight.float()).to(dtype))


def test_the_two_widths_agree_on_codes_that_both_have() -> None:
    generator = generator_of(1)
    a, codes = activations(3, 64, torch.bfloat16, generator), nibble_codes(5, 64, generator)
    scale = group_scales(5, 2, torch.bfloat16, generator)
    narrow = ops.int4_mm(a, nibbles.pack(codes), scale, out_dtype=torch.bfloat16)
    assert torch.equal(narrow, ops.int8_mm(a, codes, scale, out_dtype=torch.bfloat16))


def by_loop(a: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """INT8 in plain integers, one element at a time, groups added in float32 in the order of K."""
    m, n, groups = len(a), len(codes), scale.shape[1]
    size = a.shape[1] // groups
    out = torch.zeros(m, n)
    for row in range(m):
        for column in range(n):
            for group in range(groups):
                here = range(group * size, (group + 1) * size)
                whole = sum(int(a[row, k]) * int(codes[column, k]) for k in here)
                out[row, column] += torch.tensor(float(whole)) * scale[column, group].float()
    return out


@pytest.mark.parametrize("size", [(3, 48, 4, 3), (1, 4, 1, 1), (2, 13, 3, 1), (2, 1, 2, 1), (1, 64, 2, 8)], ids=str)
@pytest.mark.parametrize("implementation", ["torch._int_mm", "reference"])
def test_int8_is_exact_in_each_group(size: tuple[int, int, int, int], implementation: str) -> None:
    m, k, n, groups = size
    if k == 1:
        implementation = "reference"
    generator = generator_of(*size, 4)
    a, codes = activations(m, k, torch.int8, generator), nibble_codes(n, k, generator)
    scale = group_scales(n, groups, torch.bfloat16, generator)
    a_scale = torch.rand(m, 1, generator=generator)
    with only(implementation):
        found = ops.int4_mm(a, nibbles.pack(codes), scale, a_scale=a_scale, out_dtype=torch.float32)
    assert torch.equal(found, by_loop(a, codes, scale) * a_scale)


def test_a_group_is_rounded_once_after_its_whole_sum() -> None:
    """128 * 127 * 127 * ... would not be exact in float32 halfway; INT32 is."""
    k = 2**15
    a, codes = torch.full((1, k), 127, dtype=torch.int8), torch.full((1, k), 7, dtype=torch.int8)
    a[0, -1], codes[0, -1] = 1, 1
    whole = (k - 1) * 127 * 7 + 1
    assert whole > 2**24
    one = torch.ones(1, 1)
    for implementation in ("torch._int_mm", "reference"):
        with only(implementation):
            found = ops.int4_mm(a, nibbles.pack(codes), one, a_scale=one, out_dtype=torch.float32)
        assert found.item() == torch.tensor(whole, dtype=torch.int64).float().item()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_fp8_within_what_float32_sums_may_lose(size: tuple[int, int, int, int]) -> None:
    m, k, n, groups = size
    generator = generator_of(*size, 5)
    a, codes = activations(m, k, FP8, generator), nibble_codes(n, k, generator)
    scale, a_scale = group_scales(n, groups, torch.float32, generator), torch.rand(m, 1, generator=generator)
    found = ops.int4_mm(a, nibbles.pack(codes), scale, a_scale=a_scale, out_dtype=torch.float32)
    weight = codes.double() * spread(scale, k)
    exact = (a.double() @ weight.T) * a_scale
    bound = (k + groups + 3) * 2.0**-24 * (a.double().abs() @ weight.abs().T) * a_scale
    assert ((found - exact).abs() <= bound).all()


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 6), st.integers(0, 99))
def test_int_mm_is_the_reference_bit_for_bit(m: int, n: int, groups: int, eights: int, seed: int) -> None:
    k = 8 * eights * groups
    generator = generator_of(m, n, groups, eights, seed)
    a, codes = activations(m, k, torch.int8, generator), nibble_codes(n, k, generator)
    scale = group_scales(n, groups, torch.float32, generator)
    epilogue = Epilogue(torch.rand(m, 1), torch.ones(1, 1), torch.randn(n), "gelu")
    (by_torch,) = (each for each in implementations() if (each.name, each.op) == ("torch._int_mm", "int4_mm"))
    plain = Int4Weight(nibbles.pack(codes), scale, None, n)
    expected = int4_mm_reference(a, plain, epilogue)
    for layout in weight_orders.INT4:
        assert torch.equal(by_torch.run(a, weight_orders.packed(plain, layout, k), epilogue), expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", [*FLOATS, *CODES])
@pytest.mark.parametrize("layout", weight_orders.INT4)
def test_every_order_of_the_weight_gives_the_same_bits(
    size: tuple[int, int, int, int], dtype: torch.dtype, layout: str
) -> None:
    m, k, n, groups = size
    generator = generator_of(*size, 11)
    a, codes = activations(m, k, dtype, generator), nibble_codes(n, k, generator)
    scale = group_scales(n, groups, torch.bfloat16, generator)
    zero = None if dtype in CODES else nibble_codes(n, groups, generator)
    given: dict[str, Any] = {"a_scale": torch.rand(m, 1) if dtype in CODES else None, "bias": torch.randn(n)}
    expected = ops.int4_mm(a, nibbles.pack(codes), scale, zero, **given, out_dtype=torch.float32)
    b = weight_orders.packed(Int4Weight(nibbles.pack(codes), scale, zero, n), layout, k)
    found = ops.int4_mm(a, b.packed, b.scale, b.zero, **given, out_dtype=torch.float32, layout=b.layout, n=b.n)
    assert b.layout == layout
    assert torch.equal(found, expected)


@given(st.integers(1, 7), st.integers(0, 2**31 - 1))
def test_padding_nibbles_add_nothing(k: int, noise: int) -> None:
    generator = generator_of(k, noise)
    codes = nibble_codes(3, k, generator)
    packed, scale = nibbles.pack(codes), group_scales(3, 1, torch.float32, generator)
    noisy = packed | (noise << 4 * k) & 0x7FFFFFFF
    for dtype in (torch.float32, torch.int8, FP8):
        a = activations(2, k, dtype, generator)
        a_scale = None if dtype == torch.float32 else torch.ones(1)
        found = ops.int4_mm(a, noisy, scale, a_scale=a_scale, out_dtype=torch.float32)
        assert torch.equal(found, ops.int4_mm(a, packed, scale, a_scale=a_scale, out_dtype=torch.float32))


@pytest.mark.parametrize("dtype", [torch.bfloat16, *CODES])
def test_the_ending_is_that_of_every_matmul(dtype: torch.dtype) -> None:
    generator = generator_of(7)
    a, codes = activations(6, 64, dtype, generator), nibble_codes(10, 64, generator)
    scale, packed = group_scales(10, 2, torch.bfloat16, generator), nibbles.pack(codes)
    a_scale = torch.rand(6, 1, generator=generator) if dtype in CODES else None
    bias, residual, gate = torch.randn(10), torch.randn(6, 10).half(), torch.randn(1, 10)
    plain = ops.int4_mm(a, packed, scale, a_scale=a_scale, out_dtype=torch.float32)
    ending: dict[str, Any] = {"bias": bias, "activation": "silu", "residual": residual, "gate": gate}
    expected = residual.float() + gate * F.silu(plain + bias)
    found = ops.int4_mm(a, packed, scale, a_scale=a_scale, **ending, out_dtype=torch.float32)
    assert torch.equal(found, expected)
    step = torch.tensor([0.02])
    quantized = ops.int4_mm(a, packed, scale, a_scale=a_scale, **ending, out_dtype=FP8, out_scale=step)
    assert torch.equal(quantized.float(), encode(expected, step, FP8).float())
    if a_scale is None:
        codes8 = ops.int8_mm(a, codes, scale, **ending, out_dtype=torch.int8, out_scale=step)
        assert torch.equal(codes8, encode(expected, step, torch.int8))


@pytest.mark.parametrize("dtype", [torch.float16, *CODES])
def test_leading_dimensions_strides_and_no_rows(dtype: torch.dtype) -> None:
    generator = generator_of(8)
    a, codes = activations(12, 32, dtype, generator), nibble_codes(10, 32, generator)
    scale, packed = group_scales(10, 4, torch.bfloat16, generator), nibbles.pack(codes)
    one = torch.rand(12, 1, generator=generator)

    def run(a: torch.Tensor, rows: torch.Tensor, b: torch.Tensor = packed, s: torch.Tensor = scale) -> torch.Tensor:
        return ops.int4_mm(a, b, s, a_scale=rows if dtype in CODES else None, out_dtype=torch.bfloat16)

    flat = run(a, one)
    assert torch.equal(run(a.view(2, 3, 2, 32), one.view(2, 3, 2, 1)).view(12, 10), flat)
    assert torch.equal(run(a.view(3, 4, 32), one.view(3, 4, 1)).view(12, 10), flat)
    strided = torch.empty(32, 12, dtype=torch.float32).to(dtype).T.copy_(a)
    assert torch.equal(run(strided, one, packed.T.contiguous().T, scale.T.contiguous().T), flat)
    assert run(a[:0], one[:0]).shape == (0, 10)
    assert run(a.view(2, 6, 32)[:, :0], one.view(2, 6, 1)[:, :0]).shape == (2, 0, 10)
    if dtype not in CODES:
        assert torch.equal(ops.int8_mm(strided, codes.T.contiguous().T, scale, out_dtype=torch.bfloat16), flat)
        assert ops.int8_mm(a[:0], codes, scale, out_dtype=torch.bfloat16).shape == (0, 10)


@pytest.mark.parametrize("layout", weight_orders.INT4)
@pytest.mark.parametrize("dtype", [torch.bfloat16, *CODES])
def test_opcheck(dtype: torch.dtype, layout: str) -> None:
    # torch compares inputs before and after with allclose, which it has not for FP8 on a CPU.
    tests = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    checks = tests if dtype == FP8 else ("test_schema", *tests)
    generator = generator_of(9)
    a, codes = activations(5, 32, dtype, generator), nibble_codes(8, 32, generator)
    scale = group_scales(8, 4, torch.bfloat16, generator)
    is_code = dtype in CODES
    zero = None if is_code else nibble_codes(8, 4, generator)
    a_scale = torch.rand(5, 1) if is_code else None
    for out_dtype, out_scale in ((torch.float16, None), (torch.int8, torch.ones(1))):
        ending = (torch.randn(8), "gelu", None, torch.randn(5, 8), out_dtype, out_scale)
        b = weight_orders.packed(Int4Weight(nibbles.pack(codes), scale, zero, 8), layout, 32)
        arguments = (a, a_scale, b.packed, b.scale, b.zero, *ending, layout, 8)
        torch.library.opcheck(torch.ops.quant.int4_mm.default, arguments, test_utils=checks)
        if not is_code and layout == nibbles.NAME:
            torch.library.opcheck(torch.ops.quant.int4_mm.default, arguments[:-2], test_utils=checks)
            torch.library.opcheck(torch.ops.quant.int8_mm.default, (a, codes, scale, *ending), test_utils=checks)


@pytest.mark.parametrize("layout", weight_orders.INT4)
@pytest.mark.parametrize("dtype", [torch.bfloat16, *CODES])
def test_compiles_into_one_graph_for_every_number_of_rows(dtype: torch.dtype, layout: str) -> None:
    generator = generator_of(10)
    codes = nibble_codes(10, 32, generator)
    scale = group_scales(10, 2, torch.bfloat16, generator)
    b = weight_orders.packed(Int4Weight(nibbles.pack(codes), scale, None, 10), layout, 32)
    gate = torch.randn(1, 10)

    def layer(x: torch.Tensor) -> torch.Tensor:
        q, a_scale = ops.quantize_rows(x, dtype) if dtype in CODES else (x, None)
        out = ops.int4_mm(q, b.packed, b.scale, a_scale=a_scale, gate=gate, out_dtype=x.dtype, layout=layout, n=b.n)
        return out if dtype in CODES else out + ops.int8_mm(x, codes, scale, gate=gate, out_dtype=dtype)

    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for rows in (5, 13, 30):  # none of them the size of anything else, which torch would take for the same
        x = torch.randn(rows, 32).bfloat16()
        assert torch.equal(compiled(x), layer(x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_what_runs_on_a_cpu() -> None:
    call = Call("int4_mm", "cpu", torch.int8, m=4, n=8, k=64, group=32)
    assert choose(call).name == "torch._int_mm"
    for dtype in (FP8, *FLOATS):
        assert choose(Call("int4_mm", "cpu", dtype, m=4, n=8, k=64)).run is int4_mm_reference
    assert choose(Call("int8_mm", "cpu", torch.bfloat16, m=4, n=8, k=64)).run is int8_mm_reference
    with pytest.raises(ValueError, match="reference takes float32, bfloat16, float16, not int8"):
        choose(Call("int8_mm", "cpu", torch.int8, m=4, n=8, k=64))
    gpu = Call("int4_mm", "cuda", torch.int8, m=64, n=64, k=64, capability=(7, 5))
    assert choose(gpu).run is int4_mm_reference
