"""Which lines of which files the emulator's messages are about."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection
from functools import cache
from pathlib import Path

_PLACE = re.compile(r"@(\d+)@")
_FRAME = re.compile(r"(?:.*/)?([^/]+):(\d+)(?: .*)?")


def with_places(message: str, program: Path, files: Collection[str]) -> str:
    """`message` with every `@offset@` replaced by the lines of `files` that were compiled to that place.

    Args:
        message: of a fault.
        program: the shared object.
        files: names of the kernel's own files; frames of the emulator's headers are left out.
    """
    return _PLACE.sub(lambda found: _lines(int(found[1]), program, frozenset(files)), message)


@cache
def _lines(offset: int, program: Path, files: frozenset[str]) -> str:
    command = ["addr2line", "-i", "-e", str(program), hex(offset)]
    frames = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    lines = [f"{found[1]}:{found[2]}" for found in map(_FRAME.fullmatch, frames) if found and found[1] in files]
    return " in ".join(lines) or "an unknown line"
