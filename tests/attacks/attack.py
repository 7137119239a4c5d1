"""One hostile file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Header = dict[str, Any]
#: Makes something at a path that is no file of bytes.
Place = Callable[[Path], object]


@dataclass(frozen=True)
class Attack:
    """A file that takes the place of a good one.

    Attributes:
        what: one line: what it attacks, and how.
        target: the name of the campaign's target whose files it stands among.
        file: its path there.
        make: its bytes, from those of the good file ("" where there is none), or what puts something else there.
        harmless: it may be read, because it means nothing bad; everything else must be refused.
    """

    what: str
    target: str
    file: str
    make: Callable[[bytes], bytes | Place]
    harmless: bool = False


def instead(data: bytes | str) -> Callable[[bytes], bytes]:
    """The whole file replaced."""
    whole = data.encode() if isinstance(data, str) else data
    return lambda good: whole


#: What code in a hostile file makes where it is run; of this process alone.
CANARY = Path(tempfile.gettempdir()) / f"quant-canary-{os.getpid()}"
#: A pickle and YAML tags that run code when they are read.
PICKLE = f"cos\nsystem\n(S'touch {CANARY}'\ntR.".encode()
YAML_CODE = f'!!python/object/apply:os.system ["touch {CANARY}"]'
YAML_OBJECT = f"!!python/object/apply:subprocess.Popen [[touch, {CANARY}]]"


def placed(place: Place) -> Callable[[bytes], Place]:
    """Something else in the file's place: a pipe, a link to a device."""
    return lambda good: place


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


#: What waits, never ends, or is a terabyte of nothing.
ODD_PLACES: Mapping[str, Place] = {
    "time: a pipe that nobody writes": os.mkfifo,
    "memory: a device that never ends": lambda path: path.symlink_to("/dev/zero"),
    "memory: a terabyte of nothing": _huge,
}


def edited(change: Callable[[Any], object]) -> Callable[[bytes], bytes]:
    """A JSON file with its body changed in place by `change`."""

    def make(good: bytes) -> bytes:
        body = json.loads(good)
        change(body)
        return json.dumps(body).encode()

    return make


def put(*path: Any, value: Any) -> Callable[[bytes], bytes]:
    """A JSON file with one value set."""

    def change(body: Any) -> None:
        for key in path[:-1]:
            body = body[key]
        body[path[-1]] = value

    return edited(change)


def header(change: Callable[[Header], object]) -> Callable[[bytes], bytes]:
    """A safetensors file with its header changed in place."""

    def make(good: bytes) -> bytes:
        length = int.from_bytes(good[:8], "little")
        body = json.loads(good[8 : 8 + length])
        change(body)
        return with_header(json.dumps(body).encode(), good[8 + length :])

    return make


def with_header(text: bytes, payload: bytes) -> bytes:
    """A safetensors file of these parts."""
    return len(text).to_bytes(8, "little") + text + payload


def values(name: str, change: Callable[[Mapping[str, Any], bytearray], object]) -> Callable[[bytes], bytes]:
    """A safetensors file with the bytes of one tensor changed in place."""

    def make(good: bytes) -> bytes:
        length = int.from_bytes(good[:8], "little")
        entry = json.loads(good[8 : 8 + length])[name]
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        part = bytearray(good[begin:end])
        change(entry, part)
        return good[:begin] + bytes(part) + good[end:]

    return make


def first(data: bytes) -> Callable[[Mapping[str, Any], bytearray], object]:
    """Puts these bytes where a tensor begins."""

    def change(entry: Mapping[str, Any], part: bytearray) -> None:
        part[: len(data)] = data

    return change
