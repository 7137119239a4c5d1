"""Machine code is read whole: opcodes, operands, jumps, the compiler's schedule, and where arguments are."""

from __future__ import annotations

import struct
from importlib.machinery import ModuleSpec

import pytest

from quant.kernels.cost import machine_code
from quant.kernels.cost.machine_code import executed, nvdisasm, read
from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.launch import Build
from quant.kernels.runtime.nvrtc import compile_cubin

#: A loop whose length is not known, and a constant that only the argument holds.
TEXT = r"""
struct Arguments { int* p; int n, added; };
extern "C" __global__ void tiny(const Arguments a) {
#pragma unroll 1
  for (int i = threadIdx.x; i < a.n; i += 32) atomicAdd(a.p + i, a.added);
}
"""


def compiled(arch: str) -> bytes:
    return compile_cubin(Build("tiny", ()), arch, {"tiny.cu": TEXT}).cubin


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
def test_a_kernel_is_read_with_its_jumps_and_its_argument(arch: str) -> None:
    one, other = read([compiled(arch), compiled(arch)], arch)
    first, second = ([(each.opcode, each.target) for each in code.instructions] for code in (one, other))
    assert first == second  # jumps are within their own kernel
    instructions = one.instructions
    (back,) = (place for place, each in enumerate(instructions) if each.target is not None and each.target < place)
    assert any(each.base in ("RED", "REDG", "ATOMG") for each in instructions[instructions[back].target : back])
    assert [each.base for each in instructions].count("EXIT") >= 1
    assert all(each.target is None or 0 <= each.target < len(instructions) for each in instructions)
    # n is 8 bytes into the only parameter.
    place = f"c[0x0][{one.arguments_at + 8:#x}]"
    assert any(operand.startswith(place) for each in instructions for operand in each.operands)


def test_the_schedule_is_where_it_is_known_to_be() -> None:
    """The bits of the control word, set one by one in an instruction of this compiler."""
    arch, cubin = "sm_80", compiled("sm_80")
    text = executed(cubin)
    at = cubin.index(text)
    low, high = struct.unpack_from("<2Q", cubin, at)
    schedule = 13 << 41 | 2 << 46 | 4 << 49 | 0b100001 << 52
    bits = (1 << 58) - (1 << 41)
    changed = struct.pack("<2Q", low, high & ~bits | schedule)
    (code,) = read([cubin[:at] + changed + cubin[at + 16 :]], arch)
    first = code.instructions[0]
    assert (first.stall, first.sets, first.waits) == (13, (2, 4), 0b100001)


def test_a_missing_disassembler_is_an_error_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> ModuleSpec | None:
        return None

    assert nvdisasm().endswith("bin/nvdisasm")
    monkeypatch.setattr(machine_code, "find_spec", nothing)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(KernelError, match="pip install nvidia-cuda-nvdisasm"):
        nvdisasm()


def test_what_is_no_code_of_the_architecture_is_an_error() -> None:
    with pytest.raises(KernelError, match="nvidia-cuda-nvdisasm"):
        read([compiled("sm_80")], "sm_90x")
