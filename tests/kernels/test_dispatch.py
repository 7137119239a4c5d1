"""The choice of an implementation is data: limits refuse in words, and each one agrees with its op's reference."""

from dataclasses import replace

import pytest
import torch

from quant.kernels import dispatch, ops
from quant.kernels.arguments import Epilogue
from quant.kernels.dispatch import Call, Implementation, choose, explain, implementations, only
from quant.kernels.matmuls.sm90_gemm import HopperTile
from quant.kernels.matmuls.table import matmuls
from quant.kernels.numerics import LARGEST_INT8_K
from quant.kernels.ops.quantize_rows import reference as quantize_rows_reference
from quant.kernels.ops.scaled_mm import reference as scaled_mm_reference
from quant.kernels.runtime.architectures import ARCHITECTURES

CALL = Call("scaled_mm", "cpu", torch.int8, m=33, n=16, k=64)


def test_int8_runs_by_torch_and_fp8_by_the_reference_on_a_cpu() -> None:
    assert choose(CALL).name == "torch._int_mm"
    assert choose(replace(CALL, dtype=torch.float8_e4m3fn)).name == "reference"
    assert choose(replace(CALL, op="quantize_rows")).run is quantize_rows_reference


ON_GPU = replace(CALL, device="cuda", capability=(9, 0))


@pytest.mark.parametrize("call", [replace(ON_GPU, m=16), replace(ON_GPU, n=12), replace(ON_GPU, k=60)])
def test_the_limits_of_int_mm_on_cuda(call: Call) -> None:
    refusals = {each.name: why for each, why in explain(replace(call, no_compiled="CuPy is not installed"))}
    assert refusals["sm90_int8_gemm"] == refusals["sm80_int8_gemm"] == "CuPy is not installed"
    assert "needs" in (refusals["torch._int_mm"] or "")
    assert refusals["reference"] is None


FP8 = torch.float8_e4m3fn


@pytest.mark.parametrize(
    ("capability", "dtype", "op", "name"),
    [
        ((8, 0), torch.int8, "scaled_mm", "sm80_int8_gemm"),
        ((8, 6), torch.int8, "scaled_mm", "sm80_int8_gemm"),
        ((8, 9), torch.int8, "scaled_mm", "sm80_int8_gemm"),
        ((9, 0), torch.int8, "scaled_mm", "sm90_int8_gemm"),
        ((7, 5), torch.int8, "scaled_mm", "torch._int_mm"),
        ((8, 9), FP8, "scaled_mm", "sm89_fp8_gemm"),
        ((8, 0), FP8, "scaled_mm", "reference"),
        ((9, 0), FP8, "scaled_mm", "sm90_fp8_gemm"),
        ((10, 0), torch.int8, "scaled_mm", "torch._int_mm"),
        ((10, 0), FP8, "scaled_mm", "reference"),
        ((8, 0), FP8, "quantize_rows", "quantize_rows"),
        ((9, 0), torch.int8, "quantize_rows", "quantize_rows"),
        ((10, 0), torch.int8, "quantize_rows", "reference"),
    ],
)
def test_what_each_architecture_runs(capability: tuple[int, int], dtype: torch.dtype, op: str, name: str) -> None:
    assert choose(replace(ON_GPU, capability=capability, dtype=dtype, op=op)).name == name


@pytest.mark.parametrize("dtype", [torch.int8, FP8])
def test_the_compiled_quantization_finds_one_scale_a_row(dtype: torch.dtype) -> None:
    call = replace(ON_GPU, op="quantize_rows", n=0, dtype=dtype, group=128)
    reasons = {each.name: why for each, why in explain(call)}
    assert reasons == {"quantize_rows": "finds one scale a row, not one for each 128 of K", "reference": None}
    assert choose(replace(call, group=0)).compiled


def test_every_op_ends_with_its_reference() -> None:
    found = {each.op: each.name for each in implementations()}  # the last of each op
    assert found == {op.name: "reference" for op in ops.OPS}


def test_asking_for_one_that_cannot_run_is_an_error() -> None:
    with only("sm89_fp8_gemm"):
        with pytest.raises(ValueError, match="sm89_fp8_gemm takes float8_e4m3fn, not int8"):
            choose(ON_GPU)
        assert choose(replace(ON_GPU, capability=(8, 9), dtype=FP8)).name == "sm89_fp8_gemm"
    with only("sm90_fp8_gemm"), pytest.raises(ValueError, match="sm90_fp8_gemm runs on sm_90, not on sm_89"):
        choose(replace(ON_GPU, capability=(8, 9), dtype=FP8))
    assert choose(ON_GPU).name == "sm90_int8_gemm"
    with only("sm80_int8_gemm"):
        assert choose(ON_GPU).name == "sm80_int8_gemm"
    with pytest.raises(ValueError, match="no implementation is called 'sm80'"), only("sm80"):
        pass


MATMULS = [each for each in implementations() if each.compiled and each.op == "scaled_mm"]


@pytest.mark.parametrize("each", MATMULS, ids=lambda each: each.name)
def test_sizes_are_counted_in_32_bits_up_to_the_end_of_the_last_tile(each: Implementation) -> None:
    (limits,) = each.limits
    most = 2**31 - 1
    assert limits.m_at_most is not None
    assert limits.n_at_most is not None
    assert limits.k_at_most is not None
    for here in ARCHITECTURES.values():
        if here.capability in limits.capabilities:
            for tile in matmuls()[each.name].tiles(here):
                # Blocks of a cluster lie below each other.
                height = tile.m * (tile.cluster if isinstance(tile, HopperTile) else 1)
                assert -(-limits.m_at_most // height) * height <= most
                assert -(-limits.n_at_most // tile.n) * tile.n <= most
                assert -(-limits.k_at_most // 16) * 16 + 128 <= most
    call = replace(ON_GPU, capability=limits.capabilities[0], dtype=limits.dtypes[0])
    for name in ("m", "n", "k"):
        size = getattr(limits, f"{name}_at_most")
        assert each.refusal(replace(call, **{name: size})) is None
        assert each.refusal(replace(call, **{name: size + 1})) == f"needs {name.upper()} <= {size}, got {size + 1}"


def test_sums_of_int8_do_not_overflow() -> None:
    found = {each.name: each.limits[0].k_at_most for each in MATMULS if torch.int8 in each.limits[0].dtypes}
    assert set(found.values()) == {LARGEST_INT8_K}
    assert LARGEST_INT8_K * 127 * 127 < 2**31


def test_nothing_that_fits_is_an_error_with_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    few = tuple(each for each in implementations() if each.name == "torch._int_mm")
    monkeypatch.setattr(dispatch, "implementations", lambda: few)
    with pytest.raises(ValueError, match="no implementation of scaled_mm runs") as caught:
        choose(replace(CALL, dtype=torch.float8_e4m3fn))
    assert "torch._int_mm takes int8, not float8_e4m3fn" in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 123, 77), (33, 64, 16), (0, 8, 8)])
def test_int_mm_equals_the_reference_bit_for_bit(shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    a, b = (torch.randint(-127, 128, (rows, k), dtype=torch.int8) for rows in (m, n))
    epilogue = Epilogue(torch.rand(m, 1), torch.rand(n, 1), torch.randn(n), "gelu")
    (int_mm,) = (each for each in implementations() if (each.name, each.op) == ("torch._int_mm", "scaled_mm"))
    assert torch.equal(int_mm.run(a, b, epilogue), scaled_mm_reference(a, b, epilogue))
