"""Compiles kernels for the emulator with g++, once for each set of inputs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_FOLDER = _HERE.parents[1] / "build" / "emulator"

_RUNTIME_FLAGS = ("-std=c++17", "-O2", "-g1", "-fPIC", "-Wall", "-Wextra", "-U_FORTIFY_SOURCE")

# Every load and store calls a hook; the rest keeps them what the source says. Without -fno-tree-sra, a uint4 would
# become four accesses; thread jumps would copy a barrier into two branches. DWARF 4: addr2line of binutils 2.40 names
# the wrong file of a newer one. Most of the time would go into the C++ library's headers and into where variables are,
# which nobody asks: so neither. What C has for doubles only, as `exp`, is an error where NVRTC has it for floats too.
_KERNEL_FLAGS = (
    "-std=c++17",
    "-nostdinc++",
    "-Werror=float-conversion",
    "-O1",
    "-g1",
    "-gdwarf-4",
    "-fno-var-tracking",
    "-fPIC",
    "-fsanitize=thread",
    "-fno-exceptions",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-fno-tree-sra",
    "-fno-store-merging",
    "-fno-tree-vectorize",
    "-fno-tree-slp-vectorize",
    "-fno-tree-loop-distribute-patterns",
    "-fno-thread-jumps",
    "-ftrivial-auto-var-init=pattern",
)


class CompileError(Exception):
    """g++ refuses a kernel; the text is what it says."""


def shared_object(name: str, sources: Mapping[str, str], defines: Mapping[str, int]) -> Path:
    """A shared object of the kernel, which needs `runtime` beside it; compiled unless there is one of the same inputs.

    Args:
        name: of the kernel; `sources` holds `{name}.cu`.
        sources: file name to text, without the host's twins.
        defines: macros.

    Raises:
        CompileError: the compiler's words.
    """
    unit = f'#include "cuda.h"\n#include "{name}.cu"\n#include "trampoline.h"\n'
    macros = [f"-D{macro}={value}" for macro, value in (*defines.items(), ("KERNEL", name))]
    headers = {path.name: path.read_text() for path in _headers()}
    digest = _digest(_compiler(), _KERNEL_FLAGS, macros, unit, sources, headers, _runtime_sources())
    target = _FOLDER / f"{name}-{digest}.so"
    with _made_once(target) as folder:
        if folder is not None:
            for file, text in sources.items():
                (folder / file).write_text(text)
            (folder / "unit.cpp").write_text(unit)
            _gpp(folder, *_KERNEL_FLAGS, *macros, f"-I{_HERE}", "-c", "unit.cpp", "-o", "unit.o")
            _gpp(folder, "-shared", "unit.o", str(runtime()), "-Wl,-rpath,$ORIGIN", "-o", target.name)
    return target


def runtime() -> Path:
    """A shared object of the emulator itself, not instrumented; one for all kernels."""
    sources = _runtime_sources()
    digest = _digest(_compiler(), _RUNTIME_FLAGS, sources)
    target = _FOLDER / f"runtime-{digest}.so"
    if target.exists():
        return target
    objects = [_FOLDER / f"{name}-{digest}.o" for name in sources if name.endswith(".cpp")]
    for each in random.Random(os.getpid()).sample(objects, len(objects)):  # processes that come at once share the work
        with _made_once(each) as folder:
            if folder is not None:
                source = _HERE / "runtime" / each.name.removesuffix(f"-{digest}.o")
                _gpp(folder, *_RUNTIME_FLAGS, "-c", str(source), "-o", each.name)
    with _made_once(target) as folder:
        if folder is not None:
            flags = ("-shared", "-Wl,-Bsymbolic", f"-Wl,-soname,{target.name}")
            _gpp(folder, *flags, *map(str, objects), "-o", target.name)
    return target


def _headers() -> Sequence[Path]:
    return [path for path in sorted(_HERE.iterdir()) if path.suffix in (".h", ".cuh")]


@cache
def _runtime_sources() -> Mapping[str, str]:
    return {path.name: path.read_text() for path in sorted((_HERE / "runtime").iterdir())}


@cache
def _compiler() -> str:
    try:
        return subprocess.run(["g++", "--version"], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        message = "tests of kernels compile them for the CPU with g++, which is not installed (package g++)"
        raise CompileError(message) from None


def _gpp(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["g++", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError(done.stderr)


@contextmanager
def _made_once(target: Path) -> Iterator[Path | None]:
    """A folder to make a file of this name in, which then is the target; None where another process has made it."""
    if target.exists():
        yield None
        return
    _FOLDER.mkdir(parents=True, exist_ok=True)
    waited_for = _FOLDER / f"{target.name}.lock"
    with waited_for.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            yield None
            return
        # Within the folder of the results, so that a finished file is renamed into place.
        prefix = f"compiling-{os.getpid()}-"
        with tempfile.TemporaryDirectory(dir=_FOLDER, prefix=prefix, ignore_cleanup_errors=True) as place:
            yield Path(place)
            (Path(place) / target.name).replace(target)
        waited_for.unlink(missing_ok=True)  # whoever opens or waits for it from now on finds the target first


def _digest(*inputs: object) -> str:
    parts = [sorted(each.items()) if isinstance(each, Mapping) else each for each in inputs]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:20]
