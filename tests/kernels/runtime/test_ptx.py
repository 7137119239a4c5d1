"""The matrix wrappers of ptx.cuh and its arithmetic are the instructions that they are named after, on every
architecture that has them."""

from __future__ import annotations

import re

import pytest

from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.launch import Build
from quant.kernels.runtime.nvrtc import compile_cubin
from quant.kernels.runtime.sources import shipped
from tests.kernels.sass import disassemble

#: A call with sums c, a fragment a, a fragment b and metadata e; the type of the sums; the opcode.
PRODUCTS = [
    ("mma_s8(c, a, b[0], b[1])", "s32", "IMMA.16832.S8.S8"),
    ("mma_f16(c, a, b[0], b[1])", "float", "HMMA.16816.F32"),
    ("mma_bf16(c, a, b[0], b[1])", "float", "HMMA.16816.F32.BF16"),
    ("mma_sp_s8(c, a, b, e)", "s32", "IMMA.SP.16864.S8.S8"),
    ("mma_sp_f16<0>(c, a, b, e)", "float", "HMMA.SP.16832.F32"),
    ("mma_sp_f16<1>(c, a, b, e)", "float", "HMMA.SP.16832.F32"),
    ("mma_sp_bf16<0>(c, a, b, e)", "float", "HMMA.SP.16832.F32.BF16"),
    ("mma_sp_bf16<1>(c, a, b, e)", "float", "HMMA.SP.16832.F32.BF16"),
]
#: Native on Ada only.
FP8 = [
    ("mma_e4m3(c, a, b[0], b[1])", "float", "QMMA.16832.F32.E4M3.E4M3"),
    ("mma_sp_e4m3(c, a, b, e)", "float", "QMMA.SP.16864.F32.E4M3.E4M3"),
]
TINY = """#include "ptx.cuh"
extern "C" __global__ void tiny(SUM* out, const u32* in) {
  SUM c[4];
  u32 a[4], b[4];
  const u32 e = in[1024 + threadIdx.x];
  for (s32 i = 0; i < 4; i++) {
    c[i] = out[threadIdx.x + 32 * i];
    a[i] = in[threadIdx.x + 32 * i];
    b[i] = in[threadIdx.x + 32 * i + 512];
  }
  c[0] += e > 77;
  CALL;
  for (s32 i = 0; i < 4; i++) out[threadIdx.x + 32 * i] = c[i];
}
"""
#: One instruction, and nothing before or behind it.
WORDS = """#include "ptx.cuh"
extern "C" __global__ void tiny(u32* out, const u32* in) {
  out[threadIdx.x] = CALL(in[threadIdx.x], in[threadIdx.x + 32], in[threadIdx.x + 64]);
}
"""


def compiled(call: str, sums: str) -> tuple[Build, dict[str, str]]:
    return Build("tiny", ()), {**shipped(), "tiny.cu": TINY.replace("SUM", sums).replace("CALL", call)}


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_a_product_is_one_instruction(arch: str) -> None:
    products = [*PRODUCTS, *(FP8 if arch == "sm_89" else ())]
    texts = {f"tiny{i}.cu": compiled(call, sums)[1]["tiny.cu"] for i, (call, sums, _) in enumerate(products)}
    codes = disassemble([Build(name.removesuffix(".cu"), ()) for name in texts], arch, {**shipped(), **texts})
    for (call, _, opcode), code in zip(products, codes, strict=True):
        found = {each: count for each, count in code.opcodes.items() if re.search(r"[IHQ]G?MMA\.", each)}
        # HFMA2.MMA is a constant.
        assert {each: count for each, count in found.items() if not each.startswith("HFMA2")} == {opcode: 1}, call
        assert not [line for line in code.complaints if "never referenced" not in line], call


@pytest.mark.parametrize(("call", "sums"), [("mma_sp_e4m3(c, a, b, e)", "float"), ("mma_e4m3(c, a, 0, 0)", "float")])
def test_fp8_is_no_instruction_of_ampere(call: str, sums: str) -> None:
    build, texts = compiled(call, sums)
    with pytest.raises(KernelError, match="is undefined"):
        compile_cubin(build, "sm_86", texts)


@pytest.mark.parametrize("wrapper", ["mma_sp_f16", "mma_sp_bf16"])
def test_a_selector_is_0_or_1(wrapper: str) -> None:
    """ptxas would take any."""
    build, texts = compiled(f"{wrapper}<2>(c, a, b, e)", "float")
    with pytest.raises(KernelError, match="half of the lanes at a time"):
        compile_cubin(build, "sm_80", texts)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_arithmetic_is_one_instruction(arch: str) -> None:
    opcodes = {"fma_f16x2": r"HFMA2(\.MMA)?", "fma_bf16x2": r"HFMA2(\.MMA)?\.BF16(_V2)?", "permute_bytes": "PRMT"}
    texts = {**shipped(), **{f"tiny_{call}.cu": WORDS.replace("CALL", call) for call in opcodes}}
    codes = disassemble([Build(f"tiny_{call}", ()) for call in opcodes], arch, texts)
    for (call, opcode), code in zip(opcodes.items(), codes, strict=True):
        assert sum(count for each, count in code.opcodes.items() if re.fullmatch(opcode, each)) >= 1, call
        assert not code.count("LOP3"), call
        assert not code.count("HMUL"), call
        assert not code.count("HADD"), call
        assert code.complaints == (), call


def test_byte_perm_of_the_language_has_no_signs() -> None:
    """NVRTC clears bit 3 of each nibble, which is why there is `permute_bytes`; the emulator does the same."""
    texts = {**shipped(), "tiny.cu": WORDS.replace("CALL", "__byte_perm")}
    (code,) = disassemble([Build("tiny", ())], "sm_90a", texts)
    assert (code.count("PRMT"), code.count("LOP3")) == (1, 1)
