"""The smoke run covers every kernel, and finds the reference right by the reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.gpu import smoke
from quant.kernels.catalog import KERNELS

CPU = torch.device("cpu")


def test_every_kernel_is_launched_somewhere() -> None:
    launched = {name for arch in ("sm_80", "sm_86", "sm_89", "sm_90a") for name in smoke.kernels(arch)}
    assert launched == {kernel.name for kernel in KERNELS}
    assert "sm89_fp8_gemm" not in smoke.kernels("sm_90a")
    assert smoke.codes_of("sm89_fp8_gemm") == [torch.float8_e4m3fn]
    assert smoke.codes_of("quantize_rows") == [torch.int8, torch.float8_e4m3fn]


@pytest.mark.parametrize("launch", [smoke.launch_matmul, smoke.launch_rows])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_a_launch_is_compared_with_the_reference(
    launch: Callable[[torch.dtype, torch.device], float], dtype: torch.dtype
) -> None:
    assert launch(dtype, CPU) == 0.0


def test_the_shape_is_ragged() -> None:
    assert all(size % 16 for size in (smoke.M, smoke.N, smoke.K))
