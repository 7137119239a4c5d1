"""The smoke run covers every kernel, and finds the reference right by the reference and a wrong result wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.gpu import launches, smoke
from benchmarks.gpu.launches import Case
from quant.kernels import dispatch, weight_orders
from quant.kernels.matmuls.table import KERNELS
from quant.kernels.runtime.architectures import ARCHITECTURES
from tests.kernels.packed_cases import KINDS

CPU = torch.device("cpu")
FP8 = torch.float8_e4m3fn
EVERY = list(dict.fromkeys(case for arch in ARCHITECTURES for case in smoke.cases(arch)))


def test_every_kernel_is_launched_somewhere() -> None:
    assert {case.kernel for case in EVERY} == {kernel.name for kernel in KERNELS}
    assert "sm89_fp8_gemm" not in smoke.kernels("sm_90a")
    assert [case.dtype for case in smoke.of_kernel("sm89_fp8_gemm")] == [FP8]
    assert [case.dtype for case in smoke.of_kernel("quantize_rows")] == [torch.int8, FP8]


@pytest.mark.parametrize("name", KINDS)
def test_every_dtype_of_a_weight_in_other_orders_and_every_group(name: str) -> None:
    kind, cases = KINDS[name], list(smoke.of_kernel(name))
    assert {case.dtype for case in cases} == set(kind.dtypes)
    assert {case.op for case in cases} == {kind.op}
    if kind.sparse:
        assert {(case.m, case.k, case.group) for case in cases} == {(33, 204, 0), (7, 204, 0)}
        return
    assert {case.group for case in cases} == {0, 32, 64, 128}
    assert any(case.asymmetric for case in cases) == (kind.in_bytes == 2)
    least = next(each.limits[0].m_at_least for each in dispatch.implementations() if each.name == name)
    assert {case.m for case in cases} == ({33} if least else {33, 7})


def test_each_case_is_one_that_its_kernel_accepts() -> None:
    for arch, here in ARCHITECTURES.items():
        for case in smoke.cases(arch):
            call = dispatch.Call(
                case.op, "cuda", case.dtype, case.m, launches.N, case.k, here.capability, group=case.group
            )
            assert {each.name: why for each, why in dispatch.explain(call)}[case.kernel] is None


@pytest.mark.parametrize("case", EVERY, ids=str)
def test_a_launch_is_compared_with_the_reference(case: Case) -> None:
    assert launches.launch(case, CPU) == 0.0


def test_only_the_kernel_of_the_case_may_run() -> None:
    with pytest.raises(ValueError, match=r"no implementation of those asked for \(sm80_w4a16_gemm\)"):
        launches.run(next(smoke.of_kernel("sm80_w4a16_gemm")), CPU)


@pytest.mark.parametrize("name", ["sm80_w4a16_gemm", "sm90_w4a8_gemm", "sm80_sparse_int8_gemm", "sm90_sparse_fp8_gemm"])
def test_a_weight_that_lies_otherwise_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = weight_orders.packed

    def shifted(weight: Any, layout: str, k: int) -> Any:
        right = packed(weight, layout, k)
        first = right[0]
        bits = first.view(torch.uint8) if first.itemsize == 1 else first
        return right._replace(**{right._fields[0]: bits.roll(1, -2).view(first.dtype)})

    monkeypatch.setattr(weight_orders, "packed", shifted)
    for case in smoke.of_kernel(name):
        assert launches.launch(case, CPU) > 0.1


def test_the_shapes_are_ragged() -> None:
    assert all(size % 16 for size in (smoke.M, smoke.FEW, launches.N, smoke.K, smoke.K_OF_SPARSE))
    assert all(k % group == 0 for group, k in smoke.GROUPS.items())
