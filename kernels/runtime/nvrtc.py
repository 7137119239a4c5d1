"""Compilation of one kernel with NVRTC, from texts in memory to a cubin; needs no GPU, no driver and no toolkit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from quant.kernels.runtime.architectures import Architecture, architecture
from quant.kernels.runtime.errors import INSTALL, KernelError, one_line
from quant.kernels.runtime.launch import Build
from quant.kernels.runtime.sources import needed


class Compiled(NamedTuple):
    """What the compiler returned.

    Attributes:
        cubin: machine code of one architecture, an ELF file.
        log: warnings, and what ptxas says of registers, shared memory and spills.
    """

    cubin: bytes
    log: str


class Resources(NamedTuple):
    """What a compiled kernel uses.

    Attributes:
        registers: of a thread at launch.
        spill_bytes: stored and loaded by a thread because registers ran out.
        static_shared_bytes: of a block, not counting what the launch adds.
        stack_bytes: of a thread.
    """

    registers: int
    spill_bytes: int
    static_shared_bytes: int
    stack_bytes: int


def options(build: Build, arch: str) -> tuple[str, ...]:
    """The compiler's options for one build on one architecture ("sm_90a").

    Raises:
        KernelError: unknown architecture.
    """
    return (
        f"-arch={arch}",
        "-std=c++17",
        # A multiplication followed by an addition rounds twice, as the reference op's does: the results must be equal.
        # For the same reason there is no fast math. Matrix instructions are not affected.
        "--fmad=false",
        "--ptxas-options=-v",
        f"-DARCH={architecture(arch).macro}",
        *(f"-D{name}={value}" for name, value in build.defines),
    )


def compile_cubin(build: Build, arch: str, texts: Mapping[str, str] | None = None) -> Compiled:
    """Compiles `{build.kernel}.cu`.

    Args:
        build: the kernel and its macros.
        arch: a name of `ARCHITECTURES`.
        texts: file name to text; None for the files that are shipped.

    Raises:
        KernelError: a package or file is missing, or the compiler refused; the message ends with its log.
    """
    chosen = options(build, arch)
    (name, text), *headers = needed(f"{build.kernel}.cu", texts).items()
    nvrtc = _nvrtc()
    names, contents = [each.encode() for each, _ in headers], [each.encode() for _, each in headers]
    program = _checked(nvrtc, nvrtc.nvrtcCreateProgram(text.encode(), name.encode(), len(headers), contents, names))
    try:
        (status,) = nvrtc.nvrtcCompileProgram(program, len(chosen), [option.encode() for option in chosen])
        size = _checked(nvrtc, nvrtc.nvrtcGetProgramLogSize(program))
        log = _filled(nvrtc, nvrtc.nvrtcGetProgramLog, program, size).decode(errors="replace").strip("\0 \n")
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            raise KernelError(f"{name} does not compile with {' '.join(chosen)}: {status.name}\n{log}")
        size = _checked(nvrtc, nvrtc.nvrtcGetCUBINSize(program))
        return Compiled(_filled(nvrtc, nvrtc.nvrtcGetCUBIN, program, size), log)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def version() -> tuple[int, int]:
    """Version of the NVRTC that is installed, such as (13, 5).

    Raises:
        KernelError: it is not installed.
    """
    nvrtc = _nvrtc()
    major, minor = _checked(nvrtc, nvrtc.nvrtcVersion())
    return major, minor


def require(needs: Architecture) -> None:
    """Checks that the NVRTC that is installed compiles for this architecture.

    Raises:
        KernelError: it is not installed, or too old.
    """
    nvrtc = _nvrtc()
    if needs.macro // 10 not in _checked(nvrtc, nvrtc.nvrtcGetSupportedArchs()):
        major, minor = version()
        raise KernelError(f"NVRTC {major}.{minor} does not compile for {needs.name}: {INSTALL}")


def resources(log: str) -> Resources:
    """What ptxas reported, the most of all functions; spills of all functions and both directions are added up.

    Raises:
        KernelError: the log holds no such report.
    """
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    registers = re.findall(r"Used (\d+) registers", log)
    if not frames or not registers:
        raise KernelError(f"no report of ptxas in the compiler's log; --ptxas-options=-v asks for it: {log!r}")
    return Resources(
        registers=max(map(int, registers)),
        spill_bytes=sum(int(stores) + int(loads) for _, stores, loads in frames),
        static_shared_bytes=max(map(int, re.findall(r"(\d+) bytes smem", log)), default=0),
        stack_bytes=max(int(stack) for stack, _, _ in frames),
    )


def _nvrtc() -> Any:
    """The module `cuda.bindings.nvrtc`, with its library loaded."""
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise KernelError(f"cuda-bindings cannot be imported ({one_line(error)}): {INSTALL}") from error
    try:
        nvrtc.nvrtcVersion()
    except RuntimeError as error:  # the library is looked for at the first call
        raise KernelError(f"the NVRTC library cannot be loaded ({one_line(error)}): {INSTALL}") from error
    return nvrtc


def _checked(nvrtc: Any, returned: tuple[Any, ...]) -> Any:
    """What a call returned, one value or several, without its status.

    Raises:
        KernelError: the status is an error.
    """
    status, *values = returned
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise KernelError(f"NVRTC failed: {status.name}")
    return values[0] if len(values) == 1 else values


def _filled(nvrtc: Any, read: Any, program: Any, size: int) -> bytes:
    """What `read` writes into a buffer of `size` bytes."""
    buffer = bytearray(size)
    _checked(nvrtc, read(program, buffer))
    return bytes(buffer)
