"""What a kernel's compiled code must be, checked without a GPU: its instructions, and that registers sufficed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from quant.kernels.cost.machine_code import INSTRUCTION_BYTES, executed, nvdisasm
from quant.kernels.runtime.architectures import architecture
from quant.kernels.runtime.launch import Build
from quant.kernels.runtime.nvrtc import Resources, compile_cubin, resources

#: The hardware gives registers to a thread in steps of 8; a block has at most 1024 threads.
_REGISTER_STEP = 8
_MAX_THREADS = 1024

#: An instruction of a listing: its address, perhaps a predicate, the opcode.
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
#: Warnings of the compiler, and what ptxas calls advice: C75xx (wgmma is serialized), slow modifiers.
_COMPLAINT = re.compile(r"^(?!Remark: ).*(?:\bC75\d\d\b|\bAdvisory\b|\bwarning\b).*$", re.MULTILINE | re.IGNORECASE)


class Kernel(Protocol):
    """A kernel as the catalogue describes it."""

    @property
    def name(self) -> str:
        """Of its source and its entry point."""

    @property
    def architectures(self) -> tuple[str, ...]:
        """It is launched on these."""

    @property
    def instructions(self) -> Mapping[str, tuple[str, ...]]:
        """For each architecture the beginnings of SASS opcodes that must occur."""

    @property
    def at_most(self) -> Mapping[str, int]:
        """Beginnings of SASS opcodes, and how many there may be of each."""

    @property
    def builds(self) -> Callable[[str], tuple[Build, ...]]:
        """Those that stand for all, on an architecture."""

    @property
    def threads(self) -> Callable[[Build], int]:
        """Of a block."""

    @property
    def shared_bytes(self) -> Callable[[Build], int]:
        """Dynamic shared memory of a block."""

    @property
    def max_registers(self) -> Callable[[Build], int]:
        """Of a thread at launch."""


class Disassembly(NamedTuple):
    """A compiled build.

    Attributes:
        opcodes: how often each SASS opcode occurs, with its modifiers: "IMMA.16832.S8.S8".
        resources: what ptxas reported.
        entries: names of the entry points.
        complaints: lines of warnings and advice.
    """

    opcodes: Counter[str]
    resources: Resources
    entries: tuple[str, ...]
    complaints: tuple[str, ...]

    def count(self, beginning: str) -> int:
        """How many instructions have an opcode that begins so."""
        return sum(count for opcode, count in self.opcodes.items() if opcode.startswith(beginning))


def disassemble(builds: Sequence[Build], arch: str, texts: Mapping[str, str] | None = None) -> list[Disassembly]:
    """Compiles builds and reads their machine code; `texts` as in `compile_cubin`."""
    compiled = [compile_cubin(build, arch, texts) for build in builds]
    codes = [list(_instructions(executed(each.cubin))) for each in compiled]
    opcode = _opcodes({word for words in codes for word in words}, arch)
    assert all(any(opcode[word] == "EXIT" for word in words) for words in codes), "a listing without an end"
    return [
        Disassembly(
            Counter(opcode[word] for word in words),
            resources(each.log),
            tuple(_ENTRY.findall(each.log)),
            tuple(_COMPLAINT.findall(each.log)),
        )
        for words, each in zip(codes, compiled, strict=True)
    ]


def _instructions(text: bytes) -> Iterator[bytes]:
    return (text[at : at + INSTRUCTION_BYTES] for at in range(0, len(text), INSTRUCTION_BYTES))


def _opcodes(instructions: Iterable[bytes], arch: str) -> dict[bytes, str]:
    """Opcodes with their modifiers. To start the disassembler takes longer than its work: once for all."""
    words = sorted(instructions)
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(b"".join(words))
        file.flush()
        command = [nvdisasm(), "--no-dataflow", "--binary", arch.replace("sm_", "SM"), file.name]
        listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return dict(zip(words, _INSTRUCTION.findall(listing), strict=True))


def violations(kernel: Kernel, build: Build, arch: str, code: Disassembly) -> list[str]:
    """What is wrong with one build on one architecture, in words; empty where nothing is."""
    limits = architecture(arch)
    used, threads = code.resources, kernel.threads(build)
    shared = used.static_shared_bytes + kernel.shared_bytes(build)
    most_registers = kernel.max_registers(build)
    in_block = -(-used.registers // _REGISTER_STEP) * _REGISTER_STEP * threads
    rules = {
        f"entry points are {code.entries}, not {kernel.name}": code.entries == (kernel.name,),
        f"spills {used.spill_bytes} bytes": used.spill_bytes == 0,
        f"has a stack of {used.stack_bytes} bytes": used.stack_bytes == 0,
        f"uses {used.registers} registers, declares {most_registers}": used.registers <= most_registers,
        f"has blocks of {threads} threads": 0 < threads <= _MAX_THREADS,
        f"needs {in_block} registers a block": in_block <= limits.registers_per_sm,
        f"needs {shared} bytes of shared memory": shared <= limits.shared_bytes_per_block,
        **{f"has no {each}": code.count(each) > 0 for each in kernel.instructions[arch]},
        **{f"has {code.count(each)} {each}": code.count(each) <= most for each, most in kernel.at_most.items()},
        **{f"compiler: {line}": False for line in code.complaints},
    }
    return [text for text, holds in rules.items() if not holds]
