"""Compiled kernels on disk, by a hash of everything they were made from: a file is complete and right, or not used."""

from __future__ import annotations

import hashlib
import os
import secrets
import struct
from collections.abc import Mapping
from pathlib import Path

from quant.kernels.runtime import nvrtc
from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.launch import Build
from quant.kernels.runtime.sources import needed

#: Names the folder of compiled kernels.
CACHE_VARIABLE = "QUANT_CACHE_DIR"


def cache_dir() -> Path:
    """The folder of compiled kernels: `$QUANT_CACHE_DIR`, else `$XDG_CACHE_HOME/quant`, else `~/.cache/quant`.

    Raises:
        KernelError: none of them is known.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quant"
    except RuntimeError as error:
        raise KernelError(f"no home folder to keep compiled kernels in: set {CACHE_VARIABLE}") from error


def cubin_path(build: Build, arch: str, texts: Mapping[str, str] | None = None) -> Path:
    """The compiled file of a build on an architecture ("sm_90a"), compiled now if it is not there.

    Any number of processes may ask for the same file at once: each writes its own and renames it into place.

    Args:
        build: the kernel and its macros.
        arch: a name of `ARCHITECTURES`.
        texts: file name to text; None for the files that are shipped.

    Raises:
        KernelError: it does not compile, or the folder cannot be read or written.
    """
    path = cache_dir() / f"{build.kernel}-{arch}-{_hash(build, arch, texts)}.cubin"
    try:
        if path.is_file() and is_whole(path.read_bytes()):
            return path
    except OSError as error:
        raise _unusable(path.parent, error) from error
    _write(path, nvrtc.compile_cubin(build, arch, texts).cubin)
    return path


def is_whole(cubin: bytes) -> bool:
    """Whether this is an ELF file of full length: the compiler puts the program headers, which must be there, last."""
    if len(cubin) < 64 or not cubin.startswith(b"\x7fELF"):
        return False
    programs, sections = struct.unpack_from("<QQ", cubin, 32)
    program_bytes, program_count, section_bytes, section_count = struct.unpack_from("<4H", cubin, 54)
    end: int = max(programs + program_bytes * program_count, sections + section_bytes * section_count)
    return len(cubin) >= end


def _hash(build: Build, arch: str, texts: Mapping[str, str] | None) -> str:
    """128 bits over the sources, the options and the compiler's version, in hexadecimal."""
    digest = hashlib.sha256()
    parts = [str(nvrtc.version()), *nvrtc.options(build, arch)]
    for part in (*parts, *(each for item in needed(f"{build.kernel}.cu", texts).items() for each in item)):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little") + data)  # with lengths, so that no two lists look alike
    return digest.hexdigest()[:32]


def _write(path: Path, cubin: bytes) -> None:
    """Writes a hidden sibling and renames it, so that no reader ever sees half a file."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(cubin)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise _unusable(path.parent, error) from error


def _unusable(folder: Path, error: OSError) -> KernelError:
    return KernelError(
        f"compiled kernels cannot be kept in {folder} ({error.strerror or error}): "
        f"set {CACHE_VARIABLE} to a folder that can be written"
    )
