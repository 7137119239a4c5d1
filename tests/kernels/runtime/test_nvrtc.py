"""A kernel becomes machine code from texts in memory; what is missing or wrong is said in words."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.runtime.errors import INSTALL, KernelError
from quant.kernels.runtime.launch import Build
from quant.kernels.runtime.nvrtc import Resources, compile_cubin, options, require, resources, version

BUILD = Build("tiny", (("COUNT", 3), ("WIDTH", 33)))
TEXTS = {
    "tiny.cu": """#include "tiny.cuh"
static_assert(ARCH == __CUDA_ARCH__, "ARCH");
static_assert(COUNT == 3, "COUNT");
extern "C" __global__ void tiny(float* p) {
  __shared__ float s[WIDTH];
  s[threadIdx.x] = twice(p[0]);
  __syncthreads();
  p[threadIdx.x] = s[threadIdx.x ^ 1] * p[1] + p[2];
}
""",
    "tiny.cuh": "__device__ inline float twice(float x) { return x + x; }\n",
}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_kernel_with_a_header_and_macros_compiles_for_every_architecture(arch: str) -> None:
    cubin, log = compile_cubin(BUILD, arch, TEXTS)
    assert cubin.startswith(b"\x7fELF")
    assert f"Compiling entry function 'tiny' for '{arch}'" in log
    used = resources(log)
    assert 0 < used.registers <= 32
    assert used == Resources(used.registers, 0, 4 * 33, 0)


def test_nothing_is_read_from_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.cuh").write_text("#error read from the disk")
    monkeypatch.chdir(tmp_path)
    compile_cubin(BUILD, "sm_80", TEXTS)


def test_a_product_and_a_sum_round_twice() -> None:
    """Compiled with a fused multiply-add, both texts would be the same code."""
    chosen = options(BUILD, "sm_90a")
    assert "--fmad=false" in chosen
    assert not [each for each in chosen if "fast" in each]
    fused = {**TEXTS, "tiny.cu": TEXTS["tiny.cu"].replace("s[threadIdx.x ^ 1] * p[1] + p[2]", "fmaf(s[0], p[1], p[2])")}
    apart = {**TEXTS, "tiny.cu": TEXTS["tiny.cu"].replace("s[threadIdx.x ^ 1] * p[1] + p[2]", "s[0] * p[1] + p[2]")}
    assert compile_cubin(BUILD, "sm_90a", fused).cubin != compile_cubin(BUILD, "sm_90a", apart).cubin


def test_the_options_of_a_build() -> None:
    assert options(BUILD, "sm_89")[0] == "-arch=sm_89"
    assert options(BUILD, "sm_89")[-3:] == ("-DARCH=890", "-DCOUNT=3", "-DWIDTH=33")


def test_what_does_not_compile_is_an_error_with_the_log() -> None:
    with pytest.raises(KernelError) as caught:
        compile_cubin(BUILD, "sm_86", {**TEXTS, "tiny.cuh": "float twice;\n"})
    first, *log = str(caught.value).splitlines()
    assert first.startswith("tiny.cu does not compile with -arch=sm_86")
    assert any(line.startswith("tiny.cu(6): error") for line in log)


def test_an_architecture_there_is_not() -> None:
    with pytest.raises(KernelError, match="unknown architecture 'sm_75'"):
        compile_cubin(BUILD, "sm_75", TEXTS)


def test_spills_stacks_and_the_most_registers_are_read_from_the_log() -> None:
    log = """ptxas info    : 0 bytes gmem
ptxas info    : Function properties for helper
    16 bytes stack frame, 4 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers
ptxas info    : Function properties for tiny
ptxas         .     272 bytes stack frame, 100 bytes spill stores, 1000 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 272 bytes cumulative stack size, 2048 bytes smem, 364 bytes cmem[0]
"""
    assert resources(log) == Resources(168, 1112, 2048, 272)


def test_a_log_without_a_report() -> None:
    with pytest.raises(KernelError, match="no report of ptxas in the compiler's log"):
        resources("")


def test_missing_bindings_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(KernelError, match=r"^cuda-bindings cannot be imported \(.*\): ") as caught:
        version()
    assert str(caught.value).endswith(INSTALL)
    assert "pip install 'quant-video[cuda13]'" in INSTALL


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise RuntimeError("Failure finding libnvrtc.so.13\n")

    _replace(monkeypatch, nvrtcVersion=missing)
    with pytest.raises(KernelError) as caught:
        compile_cubin(BUILD, "sm_80", TEXTS)
    says = f"the NVRTC library cannot be loaded (Failure finding libnvrtc.so.13): {INSTALL}"
    assert str(caught.value) == says


def test_an_old_library_is_refused_for_a_new_architecture(monkeypatch: pytest.MonkeyPatch) -> None:
    require(ARCHITECTURES["sm_90a"])
    _replace(monkeypatch, nvrtcVersion=lambda: (0, 11, 7), nvrtcGetSupportedArchs=lambda: (0, [80, 86, 87]))
    require(ARCHITECTURES["sm_86"])
    with pytest.raises(KernelError) as caught:
        require(ARCHITECTURES["sm_90a"])
    assert str(caught.value) == f"NVRTC 11.7 does not compile for sm_90a: {INSTALL}"


def test_the_version() -> None:
    assert version() >= (12, 9)


def test_a_failing_call_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = SimpleNamespace(name="NVRTC_ERROR_OUT_OF_MEMORY")
    _replace(monkeypatch, nvrtcVersion=lambda: (0, 13, 5), nvrtcCreateProgram=lambda *_: (failed, None))
    with pytest.raises(KernelError, match="NVRTC failed: NVRTC_ERROR_OUT_OF_MEMORY"):
        compile_cubin(BUILD, "sm_80", TEXTS)


def _replace(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    """Puts another `cuda.bindings.nvrtc` in place, whose status of success is 0."""
    module = ModuleType("cuda.bindings.nvrtc")
    vars(module).update(functions, nvrtcResult=SimpleNamespace(NVRTC_SUCCESS=0))
    bindings = ModuleType("cuda.bindings")
    vars(bindings)["nvrtc"] = module
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", module)
