"""`sparse_scaled_mm` is `scaled_mm` on the weight that was compressed, and of floats torch's own linear layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from quant.kernels import ops, weight_orders
from quant.kernels.arguments import Epilogue, Sparse24Weight
from quant.kernels.dispatch import Call, choose, implementations, only
from quant.kernels.layouts import sparse24
from quant.kernels.layouts.sparse24 import compress
from quant.kernels.numerics import LARGEST_INT8_K
from quant.kernels.ops.sparse_scaled_mm import reference as sparse_scaled_mm_reference
from tests.kernels.weight_cases import FLOATS, FP8, activations, generator_of, weight_24

CODES = [torch.int8, FP8]
#: M, K, N: single rows and columns, one group, metadata with a half byte left over.
SIZES = [(5, 128, 7), (1, 4, 3), (3, 12, 1), (17, 320, 6), (2, 76, 130)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("one_scale", [False, True])
@pytest.mark.parametrize("implementation", [(), ("reference",)])
def test_codes_are_scaled_mm_of_the_dense_weight_bit_for_bit(
    size: tuple[int, int, int], dtype: torch.dtype, one_scale: bool, implementation: tuple[str, ...]
) -> None:
    m, k, n = size
    generator = generator_of(*size)
    a, weight = activations(m, k, dtype, generator), weight_24(n, k, dtype, generator)
    a_scale, b_scale = torch.rand(1 if one_scale else m, 1) + 0.1, torch.rand(1 if one_scale else n, 1) + 0.1
    expected = ops.scaled_mm(a, a_scale, weight, b_scale, out_dtype=torch.float32)
    with only(*implementation):
        found = ops.sparse_scaled_mm(a, a_scale, *compress(weight), b_scale, out_dtype=torch.float32)
        flat = ops.sparse_scaled_mm(a, a_scale, *compress(weight), b_scale.view(-1), out_dtype=torch.float32)
    assert torch.equal(found, expected)
    assert torch.equal(flat, expected)
    assert expected.abs().max() > 0
    exact = (a.double() @ weight.double().T) * a_scale * b_scale.T
    bound = 0.5 * k * 2.0**-23 * (a.double().abs() @ weight.double().abs().T) * a_scale * b_scale.T
    assert ((found - exact).abs() <= bound + 2.0**-22 * exact.abs()).all()


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_are_a_linear_layer_in_float32(size: tuple[int, int, int], dtype: torch.dtype) -> None:
    m, k, n = size
    generator = generator_of(*size, 2)
    a, weight = activations(m, k, dtype, generator), weight_24(n, k, dtype, generator)
    found = ops.sparse_scaled_mm(a, None, *compress(weight), None, out_dtype=dtype)
    assert torch.equal(found, F.linear(a.float(), weight.float()).to(dtype))


@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 12), st.integers(0, 99))
def test_int_mm_is_the_reference_bit_for_bit(m: int, n: int, groups: int, seed: int) -> None:
    generator = generator_of(m, n, groups, seed)
    a, weight = activations(m, 4 * groups, torch.int8, generator), weight_24(n, 4 * groups, torch.int8, generator)
    epilogue = Epilogue(torch.rand(m, 1), torch.rand(n, 1), torch.randn(n), "gelu_tanh")
    (by_torch,) = (each for each in implementations() if (each.name, each.op) == ("torch._int_mm", "sparse_scaled_mm"))
    plain = Sparse24Weight(*compress(weight), n)
    expected = sparse_scaled_mm_reference(a, plain, epilogue)
    for layout in weight_orders.SPARSE24:
        assert torch.equal(by_torch.run(a, weight_orders.packed(plain, layout, 4 * groups), epilogue), expected)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, *CODES])
@pytest.mark.parametrize("layout", weight_orders.SPARSE24)
def test_every_order_of_the_weight_gives_the_same_bits(
    size: tuple[int, int, int], dtype: torch.dtype, layout: str
) -> None:
    m, k, n = size
    generator = generator_of(*size, 7)
    a, weight = activations(m, k, dtype, generator), weight_24(n, k, dtype, generator)
    a_scale, b_scale = (torch.rand(m, 1), torch.rand(n, 1)) if dtype in CODES else (None, None)
    given: dict[str, Any] = {"bias": torch.randn(n), "out_dtype": torch.float32}
    expected = ops.sparse_scaled_mm(a, a_scale, *compress(weight), b_scale, **given)
    b = weight_orders.packed(Sparse24Weight(*compress(weight), n), layout, k)
    found = ops.sparse_scaled_mm(a, a_scale, b.values, b.meta, b_scale, **given, layout=b.layout, n=b.n)
    assert b.layout == layout
    assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, *CODES])
def test_the_ending_is_that_of_scaled_mm(dtype: torch.dtype) -> None:
    generator = generator_of(3)
    a, weight = activations(6, 32, dtype, generator), weight_24(10, 32, dtype, generator)
    ending: dict[str, Any] = {
        "bias": torch.randn(10),
        "activation": "gelu",
        "residual": torch.randn(6, 10),
        "gate": torch.randn(10),
    }
    step = torch.tensor([3.0])
    a_scale, b_scale = (torch.rand(6, 1), torch.rand(10, 1)) if dtype in CODES else (None, None)
    found = ops.sparse_scaled_mm(a, a_scale, *compress(weight), b_scale, **ending, out_dtype=torch.int8, out_scale=step)
    if a_scale is not None and b_scale is not None:
        expected = ops.scaled_mm(a, a_scale, weight, b_scale, **ending, out_dtype=torch.int8, out_scale=step)
    else:
        plain = F.gelu(F.linear(a.float(), weight.float()) + ending["bias"])
        expected = ((ending["residual"] + ending["gate"] * plain) / step).round().clamp(-127, 127).to(torch.int8)
    assert torch.equal(found, expected)
    assert len(set(found.flatten().tolist())) > 3


@pytest.mark.parametrize("dtype", [torch.float16, *CODES])
def test_leading_dimensions_strides_and_no_rows(dtype: torch.dtype) -> None:
    generator = generator_of(4)
    a, weight = activations(12, 32, dtype, generator), weight_24(10, 32, dtype, generator)
    values, meta = compress(weight)
    one = torch.rand(12, 1, generator=generator)
    b_scale = torch.rand(10, 1, generator=generator) if dtype in CODES else None

    def run(a: torch.Tensor, rows: torch.Tensor, values: torch.Tensor, meta: torch.Tensor) -> torch.Tensor:
        a_scale = rows if dtype in CODES else None
        return ops.sparse_scaled_mm(a, a_scale, values, meta, b_scale, out_dtype=torch.bfloat16)

    flat = run(a, one, values, meta)
    assert torch.equal(run(a.view(2, 3, 2, 32), one.view(2, 3, 2, 1), values, meta).view(12, 10), flat)
    strided = [torch.empty_like(x.T).contiguous().T.copy_(x) for x in (a, values, meta)]
    assert not strided[1].is_contiguous()
    assert torch.equal(run(strided[0], one, *strided[1:]), flat)
    assert run(a[:0], one[:0], values, meta).shape == (0, 10)


@pytest.mark.parametrize("layout", weight_orders.SPARSE24)
@pytest.mark.parametrize("dtype", [torch.bfloat16, *CODES])
def test_opcheck(dtype: torch.dtype, layout: str) -> None:
    # torch compares inputs before and after with allclose, which it has not for FP8 on a CPU.
    tests = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    checks = tests if dtype == FP8 else ("test_schema", *tests)
    generator = generator_of(5)
    a, weight = activations(5, 32, dtype, generator), weight_24(8, 32, dtype, generator)
    a_scale, b_scale = (torch.rand(5, 1), torch.rand(8, 1)) if dtype in CODES else (None, None)
    for out_dtype, out_scale in ((torch.float16, None), (torch.int8, torch.ones(1))):
        ending = (torch.randn(8), "silu", torch.randn(5, 8), None, out_dtype, out_scale)
        b = weight_orders.packed(Sparse24Weight(*compress(weight), 8), layout, 32)
        arguments = (a, a_scale, b.values, b.meta, b_scale, *ending, False, layout, 8)
        torch.library.opcheck(torch.ops.quant.sparse_scaled_mm.default, arguments, test_utils=checks)
        if layout == sparse24.NAME:
            torch.library.opcheck(torch.ops.quant.sparse_scaled_mm.default, arguments[:-3], test_utils=checks)


@pytest.mark.parametrize("layout", weight_orders.SPARSE24)
@pytest.mark.parametrize("dtype", [torch.bfloat16, *CODES])
def test_compiles_into_one_graph_for_every_number_of_rows(dtype: torch.dtype, layout: str) -> None:
    generator = generator_of(6)
    plain = Sparse24Weight(*compress(weight_24(10, 64, dtype, generator)), 10)
    b = weight_orders.packed(plain, layout, 64)
    b_scale = torch.rand(10, 1) if dtype in CODES else None

    def layer(x: torch.Tensor) -> torch.Tensor:
        q, a_scale = ops.quantize_rows(x, dtype) if dtype in CODES else (x, None)
        return ops.sparse_scaled_mm(
            q, a_scale, b.values, b.meta, b_scale, out_dtype=x.dtype, fast_accumulate=True, layout=layout, n=b.n
        )

    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for rows in (5, 13, 30):  # none of them the size of anything else, which torch would take for the same
        x = torch.randn(rows, 64).bfloat16()
        assert torch.equal(compiled(x), layer(x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_what_runs_where() -> None:
    call = Call("sparse_scaled_mm", "cpu", torch.int8, m=64, n=64, k=64)
    assert choose(call).name == "torch._int_mm"
    for dtype in (FP8, *FLOATS):
        other = Call("sparse_scaled_mm", "cpu", dtype, m=64, n=64, k=64)
        assert choose(other).run is sparse_scaled_mm_reference
    gpu = Call("sparse_scaled_mm", "cuda", torch.int8, m=64, n=64, k=64, capability=(7, 5))
    assert choose(gpu).run is sparse_scaled_mm_reference
    long = Call("sparse_scaled_mm", "cpu", torch.int8, m=64, n=64, k=LARGEST_INT8_K + 1)
    with pytest.raises(ValueError, match=f"reference needs K <= {LARGEST_INT8_K}"):
        choose(long)
