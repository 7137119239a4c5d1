"""The ops against formulas written out here and against torch's own matmuls, on odd shapes and strides."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from quant.kernels import ops
from quant.kernels.numerics import LARGEST, encode

DTYPES = [torch.int8, torch.float8_e4m3fn]
SHAPES = [(5, 123, 77), (1, 16, 1), (33, 1, 7), (17, 320, 96)]  # M, K, N


def codes(*shape: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 40
    return encode(values, torch.ones(1), dtype)


def operands(m: int, k: int, n: int, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(m + k + n)
    a, b = codes(m, k, dtype=dtype), codes(n, k, dtype=dtype, seed=1)
    return a, torch.rand(m, 1, generator=generator) + 0.1, b, torch.rand(n, 1, generator=generator) + 0.1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 8), (2, 5, 123), (2, 3, 4, 7)])
def test_quantize_rows_per_row(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x = torch.randn(shape)
    x[0] = 0
    q, scale = ops.quantize_rows(x, dtype)
    assert (q.shape, q.dtype, scale.shape, scale.dtype) == (x.shape, dtype, (*shape[:-1], 1), torch.float32)
    assert torch.equal(scale[1:], x[1:].abs().amax(-1, keepdim=True) / LARGEST[dtype])
    assert torch.equal(scale[0], torch.ones_like(scale[0]))
    step = 0.5 if dtype == torch.int8 else 16.0  # half the distance of neighbouring codes, at most
    assert ((q.float() * scale - x).abs() <= step * scale + 2.0**-22 * x.abs()).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 300), (2, 5, 128), (1, 7), (2, 2, 3, 129), (0, 300), (2, 0, 128)])
@pytest.mark.parametrize("group", [128, 5])
def test_quantize_rows_by_group_is_each_stretch_by_itself(
    shape: tuple[int, ...], group: int, dtype: torch.dtype
) -> None:
    x = torch.randn(shape) * torch.logspace(-3, 3, shape[-1])
    x[..., :1] = 0
    q, scale = ops.quantize_rows(x, dtype, group=group)
    groups = -(-shape[-1] // group)
    assert (q.shape, q.dtype, scale.shape, scale.dtype) == (x.shape, dtype, (*shape[:-1], groups), torch.float32)
    for number, part in enumerate(torch.split(x, group, -1)):
        alone, own = ops.quantize_rows(part, dtype)
        assert torch.equal(scale[..., number : number + 1], own)
        assert torch.equal(q[..., number * group : (number + 1) * group].float(), alone.float())


@pytest.mark.parametrize("dtype", DTYPES)
def test_quantize_rows_by_group_is_what_scales_by_block_take(dtype: torch.dtype) -> None:
    x, shift = torch.randn(2, 5, 300) * torch.logspace(-2, 2, 300), torch.randn(300)
    zero = torch.zeros(1)
    q, scale = ops.quantize_rows(x, dtype, modulation=(zero, shift), group=128)
    wide = scale.repeat_interleave(128, -1)[..., :300]
    step = 0.5 if dtype == torch.int8 else 16.0
    # Half a step, and what the quotient's own rounding to float32 moves that by.
    assert ((q.float() * wide - (x + shift)).abs() <= step * wide + 2.0**-22 * (x + shift).abs()).all()
    b, b_scale = codes(130, 300, dtype=dtype), torch.rand(2, 3) + 0.1
    found = ops.scaled_mm(q, scale, b, b_scale, out_dtype=torch.float32)
    wide_b = b_scale.repeat_interleave(128, 0)[:130].repeat_interleave(128, 1)[:, :300]
    expected = (q.double() * wide) @ (b.double() * wide_b).T
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize("dtype", DTYPES)
def test_quantize_rows_static_saturates(dtype: torch.dtype) -> None:
    x = torch.tensor([[100.0, -1.0, 0.25]])
    q, scale = ops.quantize_rows(x, dtype, scale=torch.tensor([0.1]))
    assert q.float()[0, 0] == min(LARGEST[dtype], q.float()[0, 0].item())
    assert scale.tolist() == [[pytest.approx(0.1)]]
    assert q.float()[0, 1] == -10


def test_pre_quant_scale_norm_and_modulation_come_in_this_order() -> None:
    torch.manual_seed(0)
    x, factor, by, shift = torch.randn(2, 5, 16), torch.rand(16), torch.randn(2, 1, 16), torch.randn(2, 1, 16)
    weight, bias = torch.randn(16), torch.randn(16)
    q, scale = ops.quantize_rows(
        x, torch.int8, pre_quant_scale=factor, norm=ops.Norm("layer", weight, bias, 1e-5), modulation=(by, shift)
    )
    expected = (F.layer_norm(x, (16,), weight, bias, 1e-5) * (1 + by) + shift) * factor
    assert torch.allclose(q * scale, expected, atol=scale.max().item() * 0.51)
    q, scale = ops.quantize_rows(x, torch.int8, norm=ops.Norm("rms", weight, None, 1e-5))
    assert torch.allclose(q * scale, F.rms_norm(x, (16,), weight, 1e-5), atol=scale.max().item() * 0.51)


@pytest.mark.parametrize("shape", SHAPES)
def test_int8_is_exact_in_integers(shape: tuple[int, int, int]) -> None:
    a, a_scale, b, b_scale = operands(*shape, torch.int8)
    integers = (a.long() @ b.long().T).float()
    assert torch.equal(ops.scaled_mm(a, a_scale, b, b_scale, out_dtype=torch.float32), integers * a_scale * b_scale.T)


@pytest.mark.parametrize("shape", [(5, 128, 80), (17, 320, 96), (32, 16, 16)])
def test_fp8_agrees_with_torch_scaled_mm(shape: tuple[int, int, int]) -> None:
    a, a_scale, b, b_scale = operands(*shape, torch.float8_e4m3fn)
    one = torch.ones(())  # torch 2.11 has no scales by row on a CPU
    theirs = torch._scaled_mm(a, b.T, one, one, out_dtype=torch.float32) * a_scale * b_scale.T
    ours = ops.scaled_mm(a, a_scale, b, b_scale, out_dtype=torch.float32)
    # Products of two e4m3 are exact in float32; K of them summed in any order differ by at most this.
    bound = shape[1] * 2.0**-23 * (a.float().abs() @ b.float().abs().T) * a_scale * b_scale.T
    assert ((ours - theirs).abs() <= bound).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_tanh", "silu"])
def test_epilogue_order(dtype: torch.dtype, activation: str) -> None:
    a, a_scale, b, b_scale = operands(6, 32, 10, dtype)
    bias, residual, gate = torch.randn(10), torch.randn(6, 10), torch.randn(1, 10)
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "none": lambda x: x,
        "gelu": F.gelu,
        "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
        "silu": F.silu,
    }
    plain = (a.double() @ b.double().T) * a_scale * b_scale.T + bias
    expected = residual + gate * functions[activation](plain)
    given: dict[str, Any] = {"bias": bias, "activation": activation, "residual": residual, "gate": gate}
    out = ops.scaled_mm(a, a_scale, b, b_scale, **given, out_dtype=torch.float32)
    assert torch.allclose(out.double(), expected, rtol=1e-5, atol=1e-3)
    step = torch.tensor([3.0])
    quantized = ops.scaled_mm(a, a_scale, b, b_scale, **given, out_dtype=dtype, out_scale=step)
    assert torch.equal(quantized.float(), encode(out, step, dtype).float())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("by_row_and_block", [False, True])
def test_scales_by_block(dtype: torch.dtype, by_row_and_block: bool) -> None:
    m, k, n = 5, 300, 130
    a, a_scale, b, _ = operands(m, k, n, dtype)
    b_scale = torch.rand(2, 3) + 0.1
    a_scale = torch.rand(m, 3) + 0.1 if by_row_and_block else a_scale
    wide_b = b_scale.repeat_interleave(128, 0)[:n].repeat_interleave(128, 1)[:, :k].double()
    wide_a = a_scale.double().repeat_interleave(128, 1)[:, :k] if by_row_and_block else a_scale.double()
    expected = (a.double() * wide_a) @ (b.double() * wide_b).T
    found = ops.scaled_mm(a, a_scale, b, b_scale, out_dtype=torch.float32)
    assert torch.allclose(found.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
    cube = ops.scaled_mm(a[None], a_scale[None], b, b_scale, out_dtype=torch.float32)
    assert torch.equal(cube[0], found)


@pytest.mark.parametrize("dtype", DTYPES)
def test_leading_dimensions_strides_and_no_rows(dtype: torch.dtype) -> None:
    a, a_scale, b, b_scale = operands(12, 32, 10, dtype)
    flat = ops.scaled_mm(a, a_scale, b, b_scale, out_dtype=torch.bfloat16)
    cube = ops.scaled_mm(a.view(2, 3, 2, 32), a_scale.view(2, 3, 2, 1), b, b_scale, out_dtype=torch.bfloat16)
    assert torch.equal(cube.view(12, 10), flat)
    strided = torch.empty(32, 12, dtype=torch.uint8).view(dtype).T.copy_(a)
    assert torch.equal(ops.scaled_mm(strided, a_scale, b, b_scale, out_dtype=torch.bfloat16), flat)
    assert ops.scaled_mm(a[:0], a_scale[:0], b, b_scale, out_dtype=torch.bfloat16).shape == (0, 10)
    x = torch.randn(2, 5, 16).transpose(0, 1)
    assert torch.equal(ops.quantize_rows(x, dtype)[0].float(), ops.quantize_rows(x.contiguous(), dtype)[0].float())


@pytest.mark.parametrize("dtype", DTYPES)
def test_opcheck(dtype: torch.dtype) -> None:
    x = torch.randn(3, 2, 16).transpose(0, 1)
    plain = (None, "none", None, None, 0.0, None, None)
    torch.library.opcheck(torch.ops.quant.quantize_rows.default, (x, dtype, None, *plain))
    torch.library.opcheck(torch.ops.quant.quantize_rows.default, (x, dtype, torch.tensor([0.1]), *plain))
    torch.library.opcheck(torch.ops.quant.quantize_rows.default, (x, dtype, None, *plain, 5))
    # torch compares inputs before and after with allclose, which it has not for FP8 on a CPU.
    tests = ("test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    checks = tests if dtype == torch.float8_e4m3fn else ("test_schema", *tests)
    for out_dtype, out_scale in ((torch.bfloat16, None), (dtype, torch.tensor([2.0]))):
        arguments = (*operands(5, 32, 16, dtype), torch.randn(16), "gelu", None, None, out_dtype, out_scale)
        torch.library.opcheck(torch.ops.quant.scaled_mm.default, arguments, test_utils=checks)


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiles_into_one_graph_for_every_number_of_rows(dtype: torch.dtype) -> None:
    b, b_scale = codes(10, 32, dtype=dtype), torch.rand(10, 1)

    def layer(x: torch.Tensor) -> torch.Tensor:
        q, scale = ops.quantize_rows(x, dtype)
        return ops.scaled_mm(q, scale, b, b_scale, out_dtype=x.dtype)

    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for rows in (4, 9, 30):
        x = torch.randn(rows, 32)
        assert torch.equal(compiled(x), layer(x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_scales_by_block_compile_into_one_graph_too(dtype: torch.dtype) -> None:
    b, b_scale = codes(130, 300, dtype=dtype), torch.rand(2, 3)

    def layer(x: torch.Tensor) -> torch.Tensor:
        q, scale = ops.quantize_rows(x, dtype, group=128)
        return ops.scaled_mm(q, scale, b, b_scale, out_dtype=x.dtype)

    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for rows in (5, 13, 30):
        x = torch.randn(rows, 300)
        assert torch.equal(compiled(x), layer(x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


BAD: list[tuple[dict[str, Any], str]] = [
    ({"a": torch.zeros(4, 9, dtype=torch.int8)}, "same K"),
    ({"a": torch.zeros(8, dtype=torch.int8)}, "2 to 4 dimensions"),
    ({"a": torch.zeros(4, 8)}, "int8 or both float8"),
    ({"a_scale": torch.ones(3, 1)}, "a_scale must be"),
    ({"a_scale": torch.ones(4, 1, dtype=torch.float64)}, "a_scale must be float32"),
    ({"b_scale": torch.ones(3, 1)}, r"1 or N = 6 elements, or be \[1, 1\] for blocks"),
    ({"bias": torch.ones(3)}, r"shape \[6\]"),
    ({"residual": torch.ones(3, 6)}, r"residual must broadcast to \[4, 6\], got \[3, 6\]"),
    ({"gate": torch.ones(2, 4, 6)}, r"gate must broadcast to \[4, 6\]"),
    ({"b": torch.zeros(6, 8, dtype=torch.int8, device="meta")}, "b is on meta, the input on cpu"),
    ({"bias": torch.ones(6).double()}, "bias must be float32, bfloat16 or float16"),
    ({"gate": torch.ones(4, 6, dtype=torch.int8)}, "gate must be float32"),
    ({"out_dtype": torch.float64}, "out_dtype must be"),
    ({"activation": "relu"}, "unknown activation 'relu'"),
    ({"out_dtype": torch.int8}, "out_scale goes with codes"),
    ({"out_scale": torch.ones(1)}, "out_scale goes with codes"),
    ({"out_dtype": torch.int8, "out_scale": torch.ones(2)}, r"out_scale must be one float32, got \[2\]"),
    ({"out_dtype": torch.int8, "out_scale": torch.ones(1).half()}, "out_scale must be one float32, got .*float16"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_scaled_mm_refuses(change: dict[str, Any], says: str) -> None:
    good: dict[str, Any] = {
        "a": torch.zeros(4, 8, dtype=torch.int8),
        "a_scale": torch.ones(4, 1),
        "b": torch.zeros(6, 8, dtype=torch.int8),
        "b_scale": torch.ones(6, 1),
        "out_dtype": torch.float32,
    }
    assert ops.scaled_mm(**good).shape == (4, 6)
    with pytest.raises(ValueError, match=says):
        ops.scaled_mm(**{**good, **change})


def test_a_sum_that_could_overflow_is_refused() -> None:
    k = 133_145
    with pytest.raises(ValueError, match="at most 133144"):
        ops.scaled_mm(
            torch.zeros(1, k, dtype=torch.int8),
            torch.ones(1, 1),
            torch.zeros(1, k, dtype=torch.int8),
            torch.ones(1, 1),
            out_dtype=torch.float32,
        )


@pytest.mark.parametrize(
    ("x", "options", "says"),
    [
        (torch.zeros(8), {}, "2 to 4 dimensions"),
        (torch.zeros(2, 8, dtype=torch.int32), {}, "must be float32"),
        (torch.zeros(2, 8, dtype=torch.float64), {}, "must be float32"),
        (torch.zeros(2, 8), {"scale": torch.ones(2)}, "one float32"),
        (torch.zeros(2, 8), {"scale": torch.ones(1).half()}, "one float32, got"),
        (torch.zeros(2, 8), {"scale": torch.ones(1), "group": 4}, "group is a number of columns whose scale is found"),
        (torch.zeros(2, 8), {"group": -1}, "group is a number of columns .* got -1"),
        (torch.zeros(2, 8), {"pre_quant_scale": torch.ones(8).double()}, "pre_quant_scale must be float32, bfloat16"),
        (torch.zeros(2, 8), {"pre_quant_scale": torch.ones(8, device="meta")}, "is on meta, the input on cpu"),
        (torch.zeros(2, 8), {"pre_quant_scale": torch.ones(7)}, r"pre_quant_scale must have the shape \[8\]"),
        (torch.zeros(2, 8), {"modulation": (torch.ones(3, 8), torch.ones(8))}, "modulation_scale must broadcast"),
        (torch.zeros(2, 8), {"norm": ops.Norm("batch")}, "norm must be one of"),
        (torch.zeros(2, 8), {"norm": ops.Norm("rms", torch.ones(3))}, "norm_weight must have"),
    ],
)
def test_quantize_rows_refuses(x: torch.Tensor, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ops.quantize_rows(x, torch.int8, **options)


def test_quantize_rows_refuses_another_dtype() -> None:
    with pytest.raises(ValueError, match="int8 or float8_e4m3fn"):
        ops.quantize_rows(torch.zeros(2, 8), torch.float8_e5m2)
