"""C sources compiled by the machine's own compiler, once: shared libraries by a hash of all they were made from.

Nothing of the package needs them: whoever uses one has the same arithmetic in torch, slower. So there is no extension
module to build when the package is installed, and the code is made for the processor that runs it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import secrets
import shutil
import subprocess
from pathlib import Path

from quant.kernels.runtime.cubins import cache_dir
from quant.kernels.runtime.errors import KernelError

#: Names the C compiler; the value "none" turns compiled loops off.
COMPILER_VARIABLE = "CC"
_FOLDER = Path(__file__).parent
# No -ffast-math: every bit is defined. Traps and errno are nobody's business here, and would keep loops from being
# vectorized.
_OPTIONS = ("-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_SECONDS = 120


@functools.cache
def library(source: str) -> ctypes.CDLL:
    """The compiled library of a C source in this folder, compiled now if the cache has none.

    Args:
        source: its file name, such as "encode_rows.c".

    Raises:
        KernelError: there is no compiler, it fails, or the cache cannot be written.
    """
    path = _FOLDER / source
    compiler = _compiler()
    digest = hashlib.sha256("\0".join([compiler, _version(compiler), _processor(), *_OPTIONS]).encode())
    digest.update(path.read_bytes())
    made = cache_dir() / f"{path.stem}-{digest.hexdigest()[:32]}.so"
    if not made.is_file():
        _compile(compiler, path, made)
    try:
        return ctypes.CDLL(str(made))
    except OSError as error:
        raise KernelError(f"{made}: cannot be loaded: {error}; remove it") from error


def _compiler() -> str:
    named = os.environ.get(COMPILER_VARIABLE, "cc")
    found = None if named == "none" else shutil.which(named)
    if found is None:
        raise KernelError(f"no C compiler: {COMPILER_VARIABLE} names '{named}', which is no program here")
    return found


def _version(compiler: str) -> str:
    return _run([compiler, "--version"])


def _processor() -> str:
    """What -march=native depends on: a home folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = [platform.processor()]
    return "\n".join(
        [platform.machine(), *sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})]
    )


def _compile(compiler: str, source: Path, made: Path) -> None:
    """Compiles to a hidden sibling and renames it, so that no process ever loads half a library."""
    part = made.with_name(f".{made.name}.{secrets.token_hex(8)}")
    try:
        made.parent.mkdir(parents=True, exist_ok=True)
        try:
            _run([compiler, *_OPTIONS, str(source), "-o", str(part), "-lm"])
            part.replace(made)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise KernelError(f"compiled loops cannot be kept in {made.parent} ({error.strerror or error})") from error


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise KernelError(f"{command[0]}: {error}") from error
    if done.returncode:
        first = (done.stderr.strip().splitlines() or ["no message"])[0]
        raise KernelError(f"{command[0]}: ends with status {done.returncode}: {first}")
    return done.stdout
