"""Machine code as instructions: what nvdisasm prints, and the compiler's schedule that it does not print.

Every instruction since Volta holds the clocks until the next may issue, the scoreboards that it sets and those that it
waits for, in bits 105 to 125 of its 128: Z. Jia et al., "Dissecting the NVIDIA Volta GPU Architecture via
Microbenchmarking", arXiv 1804.06826.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

from quant.kernels.runtime.errors import KernelError

#: Of any architecture since sm_70.
INSTRUCTION_BYTES = 16
#: SHF_EXECINSTR of a section of an ELF file.
_EXECUTED = 4
#: Attributes of a kernel's section .nv.info: its parameters' place in the constant bank, and that of each.
_PARAMETERS, _PARAMETER = 0x0A, 0x17
_SIZED = 4  # the form of an attribute that has a length
_LINE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;", re.MULTILINE)
_TARGET = re.compile(r"(?:^|,|\s)(0x[0-9a-f]+)$")
#: Opcodes whose last operand is where they may go to.
_JUMPS = ("BRA", "CALL")


class Instruction(NamedTuple):
    """One instruction.

    Attributes:
        opcode: with its modifiers, such as "IMMA.16832.S8.S8".
        operands: as printed.
        predicate: such as "!P0"; empty where it is always executed.
        target: index of the instruction that it may jump to.
        stall: clocks until the next may issue.
        sets: scoreboards, by number, that are set until the result is there, and until registers are read; 7 is none.
        waits: a bit for each of the six scoreboards that must be free.
    """

    opcode: str
    operands: tuple[str, ...]
    predicate: str
    target: int | None
    stall: int
    sets: tuple[int, int]
    waits: int

    @property
    def base(self) -> str:
        """The opcode without its modifiers."""
        return self.opcode.partition(".")[0]


class Code(NamedTuple):
    """A compiled kernel.

    Attributes:
        instructions: of its entry point.
        arguments_at: byte of the constant bank where its only parameter begins.
    """

    instructions: tuple[Instruction, ...]
    arguments_at: int


def read(cubins: Sequence[bytes], arch: str) -> list[Code]:
    """The code of compiled kernels of one architecture ("sm_90a").

    The disassembler takes longer to start than to work, so it is started once for all.

    Raises:
        KernelError: nvdisasm is missing, or does not understand them.
    """
    texts = [executed(cubin) for cubin in cubins]
    listing = _LINE.findall(_listed(b"".join(texts), arch))
    ends = [0, *accumulate(len(text) // INSTRUCTION_BYTES for text in texts)]
    if len(listing) != ends[-1]:
        raise KernelError(f"nvdisasm lists {len(listing)} of {ends[-1]} instructions of {arch}: {INSTALL}")
    return [
        Code(
            tuple(_instruction(line, first, text, place) for place, line in enumerate(listing[first:end])),
            _arguments_at(cubin),
        )
        for cubin, text, (first, end) in zip(cubins, texts, pairwise(ends), strict=True)
    ]


def executed(cubin: bytes) -> bytes:
    """The sections of an ELF file that are executed, one after the other."""
    found = b"".join(body for _, flags, body in _sections(cubin) if flags & _EXECUTED)
    if len(found) % INSTRUCTION_BYTES:
        raise KernelError(f"{len(found)} bytes of machine code are no whole instructions")
    return found


def nvdisasm() -> str:
    """Path of NVIDIA's disassembler: that of the Python package, else one on the PATH.

    Raises:
        KernelError: there is none.
    """
    package = find_spec("nvidia")
    for folder in (package and package.submodule_search_locations) or ():
        for found in sorted(Path(folder).glob("*/bin/nvdisasm")):
            return str(found)
    on_path = shutil.which("nvdisasm")
    if on_path is None:
        raise KernelError(f"nvdisasm is missing: {INSTALL}")
    return on_path


INSTALL = "pip install nvidia-cuda-nvdisasm"


def _listed(text: bytes, arch: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".bin") as file:
        file.write(text)
        file.flush()
        command = [nvdisasm(), "--no-dataflow", "--binary", arch.replace("sm_", "SM"), file.name]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise KernelError(f"nvdisasm does not read code of {arch} ({ran.stderr.strip()[:200]}): {INSTALL}")
    return ran.stdout


def _instruction(line: tuple[str, str, str], first: int, text: bytes, place: int) -> Instruction:
    """Number `place` of a kernel's `text`; `first`: index in the listing of the kernel's first."""
    predicate, opcode, rest = line
    target = None
    if opcode.startswith(_JUMPS) and (at := _TARGET.search(rest)) is not None:
        target = int(at[1], 16) // INSTRUCTION_BYTES - first
    (high,) = struct.unpack_from("<Q", text, INSTRUCTION_BYTES * place + 8)
    operands = tuple(part.strip() for part in rest.split(",")) if rest else ()
    sets = (high >> 46 & 7, high >> 49 & 7)
    return Instruction(opcode, operands, predicate, target, high >> 41 & 15, sets, high >> 52 & 63)


def _sections(cubin: bytes) -> Iterator[tuple[str, int, bytes]]:
    """Name, flags and content of every section that has one."""
    (table,) = struct.unpack_from("<Q", cubin, 40)
    size, count, names = struct.unpack_from("<3H", cubin, 58)
    headers = [struct.unpack_from("<2I4Q", cubin, table + size * index) for index in range(count)]
    first = headers[names][4]
    for name, kind, flags, _, start, length in headers:
        if kind != 8:  # SHT_NOBITS
            at = first + name
            yield cubin[at : cubin.index(b"\0", at)].decode(), flags, cubin[start : start + length]


def _arguments_at(cubin: bytes) -> int:
    found = {}
    for name, _, body in _sections(cubin):
        at = 0
        while name.startswith(".nv.info.") and at + 4 <= len(body):
            how, attribute, length = struct.unpack_from("<2BH", body, at)
            if how == _SIZED and attribute in (_PARAMETERS, _PARAMETER):
                found[attribute] = struct.unpack_from("<H", body, at + (8 if attribute == _PARAMETERS else 10))[0]
            at += 4 + (length if how == _SIZED else 0)
    if set(found) != {_PARAMETERS, _PARAMETER}:
        raise KernelError("the compiled kernel does not say where its parameter is")
    return int(found[_PARAMETERS] + found[_PARAMETER])
