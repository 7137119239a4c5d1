"""The wrappers of wgmma name every register once and in order, and are the instruction that they are named after."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from quant.kernels.runtime import wgmma
from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.launch import Build
from quant.kernels.runtime.nvrtc import compile_cubin
from quant.kernels.runtime.sources import shipped
from tests.kernels.sass import disassemble

#: Name of a wrapper: its sums, their constraint, the types in PTX, what follows the operands, the opcode before N.
FORMS = {
    "wgmma_e4m3": ("float", "+f", "f32.e4m3.e4m3", ", 1, 1", "QGMMA.64x{n}x32.F32.E4M3.E4M3"),
    "wgmma_s8": ("s32", "+r", "s32.s8.s8", "", "IGMMA.64x{n}x32.S8.S8"),
}
CASES = [(name, n) for name in FORMS for n in wgmma.COLUMNS]

_WRAPPER = re.compile(
    r"template <>\n"
    r"DEVICE void (?P<name>\w+)<(?P<n>\d+)>\((?P<type>\w+) \(&sums\)\[(?P<count>\d+)\], u64 a, u64 b, bool add\) \{\n"
    r"  asm volatile\((?P<body>.*?)\);\n\}\n",
    re.DOTALL,
)
#: One block of one warpgroup: sums as they were, plus a product where `add`.
TINY = """#include "wgmma.cuh"
extern "C" __global__ void tiny(SUM* out, u64 a, u64 b, s32 add) {
  SUM sums[WIDE / 2];
  for (s32 i = 0; i < WIDE / 2; i++) sums[i] = out[threadIdx.x + 128 * i];
  wgmma_fence();
  WRAPPER<WIDE>(sums, a, b, add > 3);
  wgmma_commit();
  wgmma_wait<0>();
  for (s32 i = 0; i < WIDE / 2; i++) out[threadIdx.x + 128 * i] = sums[i];
}
"""


class Wrapper(NamedTuple):
    """One wrapper as it is written: type and number of sums, the instructions, outputs and inputs."""

    type: str
    registers: int
    text: str
    outputs: list[str]
    inputs: list[str]


def written() -> dict[tuple[str, int], Wrapper]:
    found = {}
    for match in _WRAPPER.finditer(wgmma.header()):
        text, outputs, inputs = re.split(r"\n      : ", match["body"])
        strings = "".join(re.findall(r'"([^"]*)"', text)).encode().decode("unicode_escape")
        key = (match["name"], int(match["n"]))
        assert key not in found
        found[key] = Wrapper(match["type"], int(match["count"]), strings, outputs.split(", "), inputs.split(", "))
    return found


def tiny(name: str, n: int) -> tuple[Build, dict[str, str]]:
    source = TINY.replace("SUM", FORMS[name][0]).replace("WRAPPER", name)
    return Build("tiny", (("WIDE", n),)), {**shipped(), "tiny.cu": source}


def test_there_is_a_wrapper_for_every_form_and_width() -> None:
    assert set(written()) == set(CASES)
    assert wgmma.header().count("asm volatile") == len(CASES)


def test_widths_are_those_that_the_instruction_has() -> None:
    """PTX: multiples of 8 up to 256 for e4m3; for s8 of these only 8, 24 and multiples of 16."""
    assert all(n % 8 == 0 and 8 <= n <= 256 for n in wgmma.COLUMNS)
    assert all(n in (8, 24) or n % 16 == 0 for n in wgmma.COLUMNS)
    assert list(wgmma.COLUMNS) == sorted(set(wgmma.COLUMNS))


@pytest.mark.parametrize(("name", "n"), CASES)
def test_every_register_is_named_once_and_in_order(name: str, n: int) -> None:
    kind, constraint, types, behind, _ = FORMS[name]
    found = written()[name, n]
    # 64 rows of n sums, by 128 threads.
    assert (found.type, found.registers) == (kind, 64 * n // 128)
    assert found.outputs == [f'"{constraint}"(sums[{i}])' for i in range(found.registers)]
    assert found.inputs == ['"l"(a)', '"l"(b)', '"r"(static_cast<s32>(add))']
    operands = [int(each) for each in re.findall(r"%(\d+)", found.text)]
    assert sorted(operands) == list(range(found.registers + 3))
    (instruction,) = (line for line in found.text.splitlines() if line.startswith("wgmma"))
    registers = ", ".join(f"%{i}" for i in range(found.registers))
    shape = f"wgmma.mma_async.sync.aligned.m64n{n}k32.{types}"
    assert instruction == f"{shape} {{{registers}}}, %{found.registers}, %{found.registers + 1}, add{behind};"


@pytest.mark.parametrize(("name", "n"), CASES)
def test_whether_to_add_is_a_predicate_of_the_last_operand(name: str, n: int) -> None:
    found = written()[name, n]
    lines = found.text.splitlines()
    assert lines[:3] == ["{", ".reg .pred add;", f"setp.ne.b32 add, %{found.registers + 2}, 0;"]
    # In a scope of its own, so that two in one function do not declare `add` twice.
    assert lines[-1] == "}"
    assert len(lines) == 5


@pytest.mark.parametrize(("name", "n"), CASES)
def test_the_machine_code_has_the_instruction_once_with_its_shape(name: str, n: int) -> None:
    build, texts = tiny(name, n)
    code = disassemble(build, "sm_90a", texts)
    assert {opcode: count for opcode, count in code.opcodes.items() if "GMMA" in opcode} == {
        FORMS[name][4].format(n=n): 1
    }
    assert not code.count("HMMA")
    assert not code.count("IMMA")
    assert code.complaints == ()
    assert code.resources.spill_bytes == code.resources.stack_bytes == 0
    # Sums in registers, and nothing beside that a thread would lack.
    assert n // 2 <= code.resources.registers <= n // 2 + 40


def test_a_width_that_is_not_written_does_not_link() -> None:
    with pytest.raises(KernelError, match="wgmma_s8"):
        compile_cubin(Build("tiny", (("WIDE", 48),)), "sm_90a", tiny("wgmma_s8", 48)[1])


@pytest.mark.parametrize("arch", ["sm_80", "sm_89"])
def test_no_other_architecture_compiles_it(arch: str) -> None:
    build, texts = tiny("wgmma_s8", 64)
    with pytest.raises(KernelError, match=f"tiny.cu does not compile with -arch={arch}"):
        compile_cubin(build, arch, texts)


def test_the_header_is_plain_text_that_includes_the_other_wrappers_only() -> None:
    text = wgmma.header()
    assert text.isascii()
    assert re.findall(r"#include (.*)", text) == ['"ptx.cuh"']
    assert "#pragma once" in text
    assert "{{" not in text
    assert wgmma.header() is text
