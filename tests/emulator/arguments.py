"""A launch's arguments as the emulator's kernels get them: a copy, with its own addresses and tensor maps in it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

from quant.kernels.runtime.launch import Launch, TensorMap

_ALIGNMENT = 64  # of a TensorMap in a kernel
_MAGIC = int.from_bytes(b"ensormap", "little")


class _Map(ctypes.Structure):
    """runtime/tensor_map.h."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("magic", "address", "rows", "row_bytes", "stride")),
        *((name, ctypes.c_uint32) for name in ("box_rows", "box_bytes", "swizzle", "padding")),
        ("unused", ctypes.c_uint64 * 9),
    )


def filled(launch: Launch, moved: Callable[[int], int] = int) -> ctypes.Array[ctypes.c_char]:
    """The bytes of a launch's arguments, somewhere within a buffer that is a little larger; `start` says where.

    Args:
        launch: what is to run.
        moved: from an address that the arguments or their maps hold to the one that the kernel gets.

    Raises:
        ValueError: a field for a map that is not 128 bytes at a multiple of 64.
    """
    size = ctypes.sizeof(launch.arguments)
    room = ctypes.create_string_buffer(size + _ALIGNMENT)
    ctypes.memmove(start(room), ctypes.addressof(launch.arguments), size)
    for offset, address in _addresses(launch.arguments):
        ctypes.c_void_p.from_address(start(room) + offset).value = moved(address)
    for name, described in launch.maps:
        field = getattr(type(launch.arguments), name)
        if field.size != ctypes.sizeof(_Map) or field.offset % _ALIGNMENT:
            raise ValueError(f"{name}: {field.size} bytes at {field.offset}; a map is 128 at a multiple of 64")
        ctypes.memmove(
            start(room) + field.offset,
            bytes(_encoded(described._replace(address=moved(described.address)))),
            field.size,
        )
    return room


def start(room: ctypes.Array[ctypes.c_char]) -> int:
    """The address within `filled`'s buffer at which the arguments begin."""
    return -(-ctypes.addressof(room) // _ALIGNMENT) * _ALIGNMENT


def _addresses(arguments: ctypes.Structure, offset: int = 0) -> Iterator[tuple[int, int]]:
    """Where in a structure an address stands, and which; null pointers are left out."""
    for name, kind, *_ in arguments._fields_:
        value: Any = getattr(arguments, name)
        at = offset + getattr(type(arguments), name).offset
        if isinstance(value, ctypes.Structure):
            yield from _addresses(value, at)
        elif kind is ctypes.c_void_p and value is not None:
            yield at, value


def _encoded(described: TensorMap) -> _Map:
    return _Map(_MAGIC, *described)
