"""The gate lets a clean kernel through and names each fault of one that is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pytest

from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.launch import Build
from tests.kernels.sass import disassemble, violations

#: An int8 matrix instruction, predicated work, and an array that registers hold.
CLEAN = r"""
extern "C" __global__ void tiny(int* p) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%0, %1, %2, %3}, {%0, %1}, {%0, %1, %2, %3};"
      : "+r"(p[0]), "+r"(p[1]), "+r"(p[2]), "+r"(p[3]));
  if (threadIdx.x == 3) atomicAdd(p, 1);
}
"""
#: Two static KiB, and an array that must be in memory.
STACK = r"""
extern "C" __global__ void tiny(int* p, int n) {
  __shared__ int s[512];
  volatile int a[16];
  for (int i = 0; i < 16; i++) a[i] = p[i];
  s[threadIdx.x] = a[n];
  __syncthreads();
  p[threadIdx.x] = s[n] + a[p[n] & 15];
}
"""
#: 64 values live at once where __launch_bounds__ leaves 32 registers a thread.
SPILL = r"""
extern "C" __global__ void __launch_bounds__(1024, 2) tiny(volatile float* p) {
  float a[64];
#pragma unroll
  for (int i = 0; i < 64; i++) a[i] = p[i];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 64; i++) p[63 - i] = a[i];
}
"""
FP8_MMA = r"""
extern "C" __global__ void tiny(float* p, int* q) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %4, %4, %4}, {%4, %4}, "
      "{%0, %1, %2, %3};"
      : "+f"(p[0]), "+f"(p[1]), "+f"(p[2]), "+f"(p[3]) : "r"(q[0]));
}
"""
SPARSE_WITHOUT_ORDER = r"""
extern "C" __global__ void tiny(int* p) {
  asm volatile(
      "mma.sp.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%0, %1, %2, %3}, {%0, %1, %2, %3}, "
      "{%0, %1, %2, %3}, %0, 0x0;"
      : "+r"(p[0]), "+r"(p[1]), "+r"(p[2]), "+r"(p[3]));
}
"""
UNUSED = 'extern "C" __global__ void tiny(int* p) { int forgotten; p[0] = 1; }'
#: An accumulator is touched while the matrix instruction is under way.
SERIALIZED = r"""
extern "C" __global__ void tiny(float* p, unsigned long long a) {
  float d[4] = {p[0], p[1], p[2], p[3]};
  for (int i = 0; i < 2; i++) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n8k32.f32.e4m3.e4m3 {%0, %1, %2, %3}, %4, %4, 1, 1, 1;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]) : "l"(a));
    d[1] *= p[4];
    asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
  }
  p[0] = d[0] + d[1] + d[2] + d[3];
}
"""
BUILD = Build("tiny", ())


@dataclass(frozen=True)
class Tiny:
    """A catalogue entry."""

    instructions: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"sm_80": (), "sm_89": (), "sm_90a": ()}
    )
    at_most: Mapping[str, int] = field(default_factory=dict)
    threads_of_block: int = 128
    dynamic_shared: int = 0
    registers: int = 255
    name: str = "tiny"
    architectures: tuple[str, ...] = ("sm_80", "sm_89", "sm_90a")

    def builds(self, arch: str) -> tuple[Build, ...]:
        return (BUILD,)

    def threads(self, build: Build) -> int:
        return self.threads_of_block

    def shared_bytes(self, build: Build) -> int:
        return self.dynamic_shared

    def max_registers(self, build: Build) -> int:
        return self.registers


def faults(kernel: Tiny, text: str, arch: str = "sm_80") -> list[str]:
    (code,) = disassemble([BUILD], arch, {"tiny.cu": text})
    return violations(kernel, BUILD, arch, code)


def test_a_clean_kernel_passes_with_its_instructions_counted() -> None:
    (code,) = disassemble([BUILD], "sm_80", {"tiny.cu": CLEAN})
    assert code.opcodes["IMMA.16832.S8.S8"] == 1
    assert code.count("RED.E.ADD") == 1  # behind a predicate
    assert code.entries == ("tiny",)
    assert code.complaints == ()
    exact = Tiny({"sm_80": ("IMMA.16832.S8.S8",)}, {"HMMA": 0}, 1024, 163 * 1024, code.resources.registers)
    assert faults(exact, CLEAN) == []


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        (Tiny({"sm_80": ("IMMA.16832.S8.S8", "QMMA")}), ["has no QMMA"]),
        (Tiny(at_most={"IMMA": 0, "HMMA": 0, "STG": 9}), ["has 1 IMMA"]),
        (Tiny(threads_of_block=1056), ["has blocks of 1056 threads"]),
        (Tiny(dynamic_shared=163 * 1024 + 1), ["needs 166913 bytes of shared memory"]),
        (Tiny(name="small"), ["entry points are ('tiny',), not small"]),
    ],
)
def test_each_broken_rule_is_named(kernel: Tiny, says: list[str]) -> None:
    assert faults(kernel, CLEAN) == says


def test_a_register_more_than_declared() -> None:
    (code,) = disassemble([BUILD], "sm_80", {"tiny.cu": CLEAN})
    used = code.resources.registers
    assert faults(Tiny(registers=used - 1), CLEAN) == [f"uses {used} registers, declares {used - 1}"]


def test_a_stack_and_static_shared_memory() -> None:
    assert faults(Tiny(dynamic_shared=161 * 1024), STACK) == ["has a stack of 64 bytes"]
    (_, shared) = faults(Tiny(dynamic_shared=161 * 1024 + 1), STACK)
    assert shared == "needs 166913 bytes of shared memory"


def test_spills() -> None:
    spills, stack = faults(Tiny(), SPILL)
    assert spills.startswith("spills ")
    assert stack.startswith("has a stack of ")


def test_more_registers_than_a_multiprocessor_has() -> None:
    text = SPILL.replace("__launch_bounds__(1024, 2)", "__launch_bounds__(128)")
    (fault,) = faults(Tiny(threads_of_block=1024), text)
    assert fault.endswith(" registers a block")


def test_an_instruction_that_is_emulated_on_one_architecture() -> None:
    """FP8 `mma` becomes FP16 on Hopper: why the gate reads machine code, and reads it for each architecture."""
    kernel = Tiny(dict.fromkeys(("sm_89", "sm_90a"), ("QMMA.16832",)), {"HMMA": 0})
    assert faults(kernel, FP8_MMA, "sm_89") == []
    missing, instead = faults(kernel, FP8_MMA, "sm_90a")
    assert missing == "has no QMMA.16832"
    assert instead.endswith(" HMMA")


@pytest.mark.parametrize(
    ("text", "arch", "says"),
    [
        (SPARSE_WITHOUT_ORDER, "sm_80", "ordered_metadata"),
        (UNUSED, "sm_80", '"forgotten" was declared but never referenced'),
        (SERIALIZED, "sm_90a", "wgmma.mma_async instructions are serialized"),
    ],
    ids=["advice", "warning", "performance"],
)
def test_what_the_compiler_complains_of_is_a_fault(text: str, arch: str, says: str) -> None:
    found = faults(Tiny(), text, arch)
    assert [each for each in found if says in each]
    assert all(each.startswith("compiler: ") for each in found)


def test_a_kernel_that_does_not_compile() -> None:
    with pytest.raises(KernelError, match=r"tiny\.cu does not compile"):
        faults(replace(Tiny()), "nonsense")
