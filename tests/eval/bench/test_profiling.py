"""Kernels by their names, and traces as torch.profiler writes them."""

from __future__ import annotations

import pytest
import torch

from quant.eval.bench.operations import ATTENTION, ELEMENTWISE, MATMUL
from quant.eval.bench.profiling import kind_of, seconds_by_kind, trace
from quant.kernels.matmuls.table import KERNELS


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("void pytorch_flash::flash_fwd_kernel<pytorch_flash::Flash_fwd_kernel_traits<128, 128, 32, 4>>", ATTENTION),
        ("cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_6_128x128x128_4x1x1_kernel0_0", ATTENTION),
        ("fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel)", ATTENTION),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_bias_TNT", MATMUL),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1", MATMUL),
        ("ampere_bf16_s16816gemm_bf16_256x128_ldg8_f2f_stages_64x3_tn", MATMUL),
        ("void cutlass::device_kernel<at::cuda::detail::enable_3x_kernel_for_sm9x<cutlass::gemm::kernel>>", MATMUL),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16>", MATMUL),
        ("triton_tem_fused_addmm_gelu_12", MATMUL),
        ("triton_poi_fused_addmm_gelu_view_7", ELEMENTWISE),
        ("triton_red_fused__scaled_dot_product_flash_attention_native_layer_norm_3", ELEMENTWISE),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>>", ELEMENTWISE),
        ("Memcpy DtoD (Device -> Device)", ELEMENTWISE),
    ],
)
def test_kinds(kernel: str, kind: str) -> None:
    assert kind_of(kernel) == kind


def test_the_projects_own_kernels() -> None:
    for kernel in KERNELS:
        assert kind_of(kernel.name) == (MATMUL if "gemm" in kernel.name else ELEMENTWISE)


def test_only_the_devices_work_counts() -> None:
    body = {
        "traceEvents": [
            {"cat": "kernel", "name": "flash_fwd_kernel", "dur": 3000.0},
            {"cat": "kernel", "name": "nvjet_tst", "dur": 1000.0},
            {"cat": "kernel", "name": "nvjet_tst", "dur": 500.0},
            {"cat": "gpu_memset", "name": "Memset (Device)", "dur": 20.0},
            {"cat": "cpu_op", "name": "aten::addmm", "dur": 9000.0},
            {"name": "process_name", "ph": "M"},
        ]
    }
    assert seconds_by_kind(body, calls=2) == pytest.approx({MATMUL: 0.75e-3, ATTENTION: 1.5e-3, ELEMENTWISE: 0.01e-3})


def test_a_trace_is_of_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[None] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waited.append(None))
    calls: list[torch.Tensor] = []
    body = trace(lambda: calls.append(torch.ones(3) @ torch.ones(3)))
    assert len(calls) == 1
    assert len(waited) == 2  # nothing from before is in it, and all of the call is
    assert any(event.get("cat") == "cpu_op" for event in body["traceEvents"])
    assert seconds_by_kind(body) == {MATMUL: 0.0, ATTENTION: 0.0, ELEMENTWISE: 0.0}
