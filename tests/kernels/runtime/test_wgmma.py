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


class Variant(NamedTuple):
    """What a wrapper has to be.

    Attributes:
        header: its file.
        type, constraint: of its sums.
        parameters, inputs: of the operands, in C++ and as inline assembly takes them.
        shape: the instruction and its types, with {n} columns.
        operands: what follows the sums, where {0}, {1}, ... are the inputs.
        opcode: in machine code, with {n} columns.
    """

    header: str
    type: str
    constraint: str
    parameters: str
    inputs: tuple[str, ...]
    shape: str
    operands: str
    opcode: str

    @property
    def arguments(self) -> str:
        """Of a call, by the names that `TINY` has for them."""
        return ", ".join(re.findall(r"(\w+)\)?(?:\[4\])?(?:,|$)", self.parameters))


def dense(sums: str, constraint: str, types: str, behind: str, opcode: str) -> Variant:
    shape = f"wgmma.mma_async.sync.aligned.m64n{{n}}k32.{types}"
    operands = f"{{0}}, {{1}}, add{behind}"
    return Variant("wgmma.cuh", sums, constraint, "u64 a, u64 b", ('"l"(a)', '"l"(b)'), shape, operands, opcode)


def sparse(sums: str, constraint: str, depth: int, types: str, behind: str, opcode: str) -> Variant:
    shape = f"wgmma.mma_async.sp.sync.aligned.m64n{{n}}k{depth}.{types}"
    operands = f"{{0}}, {{1}}, {{2}}, 0, add{behind}"
    inputs = ('"l"(a)', '"l"(b)', '"r"(metadata)')
    return Variant("wgmma_sparse.cuh", sums, constraint, "u64 a, u64 b, u32 metadata", inputs, shape, operands, opcode)


def from_registers(sums: str, constraint: str, depth: int, types: str, behind: str, opcode: str) -> Variant:
    shape = f"wgmma.mma_async.sync.aligned.m64n{{n}}k{depth}.{types}"
    operands = f"{{{{{{0}}, {{1}}, {{2}}, {{3}}}}}}, {{4}}, add{behind}"
    inputs = ('"r"(a[0])', '"r"(a[1])', '"r"(a[2])', '"r"(a[3])', '"l"(b)')
    return Variant("wgmma_registers.cuh", sums, constraint, "const u32 (&a)[4], u64 b", inputs, shape, operands, opcode)


#: Behind the predicate: the signs of a and b, which only floats have; then for 16 bits whether they are transposed,
#: which an operand in registers cannot be.
VARIANTS = {
    "wgmma_e4m3": dense("float", "+f", "f32.e4m3.e4m3", ", 1, 1", "QGMMA.64x{n}x32.F32.E4M3.E4M3"),
    "wgmma_s8": dense("s32", "+r", "s32.s8.s8", "", "IGMMA.64x{n}x32.S8.S8"),
    "wgmma_sp_e4m3": sparse("float", "+f", 64, "f32.e4m3.e4m3", ", 1, 1", "QGMMA.SP.64x{n}x64.F32.E4M3.E4M3"),
    "wgmma_sp_s8": sparse("s32", "+r", 64, "s32.s8.s8", "", "IGMMA.SP.64x{n}x64.S8.S8"),
    "wgmma_sp_f16": sparse("float", "+f", 32, "f32.f16.f16", ", 1, 1, 0, 0", "HGMMA.SP.64x{n}x32.F32"),
    "wgmma_sp_bf16": sparse("float", "+f", 32, "f32.bf16.bf16", ", 1, 1, 0, 0", "HGMMA.SP.64x{n}x32.F32.BF16"),
    "wgmma_rs_e4m3": from_registers("float", "+f", 32, "f32.e4m3.e4m3", ", 1, 1", "QGMMA.64x{n}x32.F32.E4M3.E4M3"),
    "wgmma_rs_s8": from_registers("s32", "+r", 32, "s32.s8.s8", "", "IGMMA.64x{n}x32.S8.S8"),
    "wgmma_rs_f16": from_registers("float", "+f", 16, "f32.f16.f16", ", 1, 1, 0", "HGMMA.64x{n}x16.F32"),
    "wgmma_rs_bf16": from_registers("float", "+f", 16, "f32.bf16.bf16", ", 1, 1, 0", "HGMMA.64x{n}x16.F32.BF16"),
}
HEADERS = ("wgmma.cuh", "wgmma_sparse.cuh", "wgmma_registers.cuh")
CASES = [(name, n) for name in VARIANTS for n in wgmma.COLUMNS]

_WRAPPER = re.compile(
    r"template <>\n"
    r"DEVICE void (?P<name>\w+)<(?P<n>\d+)>\((?P<type>\w+) \(&sums\)\[(?P<count>\d+)\], (?P<parameters>[^\n]*), "
    r"bool add\) \{\n"
    r"  asm volatile\((?P<body>.*?)\);\n\}\n",
    re.DOTALL,
)
#: One block of one warpgroup: sums as they were, plus a product where `add`.
TINY = """#include "HEADER"
extern "C" __global__ void tiny(SUM* out, u64 left, u64 b, const u32* words, s32 add) {
  SUM sums[WIDE / 2];
  for (s32 i = 0; i < WIDE / 2; i++) sums[i] = out[threadIdx.x + 128 * i];
  LEFT;
  wgmma_fence();
  WRAPPER<WIDE>(sums, ARGUMENTS, add > 3);
  wgmma_commit();
  wgmma_wait<0>();
  for (s32 i = 0; i < WIDE / 2; i++) out[threadIdx.x + 128 * i] = sums[i];
}
"""
LEFT = {
    "wgmma.cuh": "const u64 a = left",
    "wgmma_sparse.cuh": "const u64 a = left; const u32 metadata = words[threadIdx.x]",
    "wgmma_registers.cuh": "const u32 a[4] = {words[0], words[1], words[2], words[threadIdx.x]}",
}


class Wrapper(NamedTuple):
    """One wrapper as it is written."""

    header: str
    type: str
    registers: int
    parameters: str
    text: str
    outputs: list[str]
    inputs: list[str]


def written() -> dict[tuple[str, int], Wrapper]:
    found = {}
    for header, source in wgmma.headers().items():
        for match in _WRAPPER.finditer(source):
            text, outputs, inputs = re.split(r"\n      : ", match["body"])
            strings = "".join(re.findall(r'"([^"]*)"', text)).encode().decode("unicode_escape")
            key = (match["name"], int(match["n"]))
            assert key not in found
            found[key] = Wrapper(
                header,
                match["type"],
                int(match["count"]),
                match["parameters"],
                strings,
                outputs.split(", "),
                inputs.split(", "),
            )
    return found


def tiny(name: str, n: int) -> tuple[Build, dict[str, str]]:
    variant = VARIANTS[name]
    parts = {
        "HEADER": variant.header,
        "SUM": variant.type,
        "LEFT": LEFT[variant.header],
        "WRAPPER": name,
        "ARGUMENTS": variant.arguments,
    }
    source = TINY
    for part, text in parts.items():
        source = source.replace(part, text)
    return Build("tiny", (("WIDE", n),)), {**shipped(), "tiny.cu": source}


def test_there_is_a_wrapper_for_every_variant_and_width() -> None:
    assert tuple(wgmma.headers()) == HEADERS == (wgmma.DENSE, wgmma.SPARSE, wgmma.REGISTERS)
    found = written()
    assert set(found) == set(CASES)
    assert all(wrapper.header == VARIANTS[name].header for (name, _), wrapper in found.items())
    assert sum(text.count("asm volatile") for text in wgmma.headers().values()) == len(CASES)


def test_widths_are_those_that_the_instruction_has() -> None:
    """PTX: multiples of 8 up to 256 for floats; for s8 of these only 8, 24 and multiples of 16."""
    assert all(n % 8 == 0 and 8 <= n <= 256 for n in wgmma.COLUMNS)
    assert all(n in (8, 24) or n % 16 == 0 for n in wgmma.COLUMNS)
    assert list(wgmma.COLUMNS) == sorted(set(wgmma.COLUMNS))


@pytest.mark.parametrize("name", VARIANTS)
def test_a_wrapper_is_declared_for_any_width(name: str) -> None:
    variant = VARIANTS[name]
    declared = f"DEVICE void {name}({variant.type} (&sums)[N / 2], {variant.parameters}, bool add);\n"
    assert wgmma.headers()[variant.header].count(f"template <int N>\n{declared}") == 1


@pytest.mark.parametrize(("name", "n"), CASES)
def test_every_register_is_named_once_and_in_order(name: str, n: int) -> None:
    variant = VARIANTS[name]
    found = written()[name, n]
    # 64 rows of n sums, by 128 threads.
    assert (found.type, found.registers) == (variant.type, 64 * n // 128)
    assert found.parameters == variant.parameters
    assert found.outputs == [f'"{variant.constraint}"(sums[{i}])' for i in range(found.registers)]
    assert found.inputs == [*variant.inputs, '"r"(static_cast<s32>(add))']
    named = [int(each) for each in re.findall(r"%(\d+)", found.text)]
    assert sorted(named) == list(range(found.registers + len(variant.inputs) + 1))
    (instruction,) = (line for line in found.text.splitlines() if line.startswith("wgmma"))
    registers = ", ".join(f"%{i}" for i in range(found.registers))
    operands = variant.operands.format(*(f"%{found.registers + i}" for i in range(len(variant.inputs))))
    assert instruction == f"{variant.shape.format(n=n)} {{{registers}}}, {operands};"


@pytest.mark.parametrize(("name", "n"), CASES)
def test_whether_to_add_is_a_predicate_of_the_last_operand(name: str, n: int) -> None:
    found = written()[name, n]
    lines = found.text.splitlines()
    last = found.registers + len(VARIANTS[name].inputs)
    assert lines[:3] == ["{", ".reg .pred add;", f"setp.ne.b32 add, %{last}, 0;"]
    # In a scope of its own, so that two in one function do not declare `add` twice.
    assert lines[-1] == "}"
    assert len(lines) == 5


@pytest.mark.parametrize("name", VARIANTS)
def test_the_machine_code_has_the_instruction_once_with_its_shape(name: str) -> None:
    builds = [tiny(name, n)[0] for n in wgmma.COLUMNS]
    codes = disassemble(builds, "sm_90a", tiny(name, wgmma.COLUMNS[0])[1])
    for n, code in zip(wgmma.COLUMNS, codes, strict=True):
        assert {opcode: count for opcode, count in code.opcodes.items() if "GMMA" in opcode} == {
            VARIANTS[name].opcode.format(n=n): 1
        }
        assert not code.count("HMMA"), n
        assert not code.count("IMMA"), n
        assert code.complaints == (), n
        assert code.resources.spill_bytes == code.resources.stack_bytes == 0, n
        # Sums in registers, and nothing beside that a thread would lack.
        assert n // 2 <= code.resources.registers <= n // 2 + 40, n


@pytest.mark.parametrize("name", ["wgmma_s8", "wgmma_sp_bf16", "wgmma_rs_f16"])
def test_a_width_that_is_not_written_does_not_link(name: str) -> None:
    with pytest.raises(KernelError, match=name):
        compile_cubin(Build("tiny", (("WIDE", 48),)), "sm_90a", tiny(name, 48)[1])


@pytest.mark.parametrize("name", ["wgmma_s8", "wgmma_sp_e4m3", "wgmma_rs_bf16"])
@pytest.mark.parametrize("arch", ["sm_80", "sm_89"])
def test_no_other_architecture_compiles_it(arch: str, name: str) -> None:
    build, texts = tiny(name, 64)
    with pytest.raises(KernelError, match=f"tiny.cu does not compile with -arch={arch}"):
        compile_cubin(build, arch, texts)


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_is_plain_text_that_includes_the_other_wrappers_only(name: str) -> None:
    text = wgmma.headers()[name]
    assert text.isascii()
    assert re.findall(r"#include (.*)", text) == ['"ptx.cuh"']
    assert "#pragma once" in text
    assert "{{" not in text
    assert wgmma.headers() is wgmma.headers()
