"""Where a launch's tensors lie while a kernel runs: copies of them, each storage far from all others.

Where malloc puts a tensor depends on everything that was allocated before, and so would what an index hits that leaves
its buffer: nothing in one run, another buffer in the next.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch

from tests.emulator.ranges import Range

#: Bytes before, between and behind storages: more than an index that is wrong by a few rows or planes leaves its own.
GAP = 1 << 30
_NO_RESERVE = 0x4000  # MAP_NORESERVE of Linux, which Python names since 3.13
_PAGE = 4096
_ALIGNMENT = 64  # of torch's own memory; what a storage had of it, its copy has too


class _Storage(NamedTuple):
    """Bytes of one storage, or of several that overlap, and where their copy is."""

    start: int
    end: int
    copy: int


class Placement:
    """Room for copies of all storages that some tensors are in, in the order of their first tensors.

    Only addresses are taken: what is never copied takes no memory.
    """

    def __init__(self, tensors: Sequence[torch.Tensor]) -> None:
        spans = _spans(tensors)
        size = GAP + sum(_room(start, end) for start, end in spans)
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE
        try:
            self._memory = mmap.mmap(-1, size, flags=flags)
        except OSError as error:
            raise RuntimeError(
                f"{size >> 30} GiB of addresses (no memory) cannot be had for a launch's tensors: {error.strerror}; "
                "the emulator needs `ulimit -v unlimited` and vm.overcommit_memory 0 or 1"
            ) from None
        self._first = ctypes.c_char.from_buffer(self._memory)
        at = ctypes.addressof(self._first) + GAP
        self._storages: list[_Storage] = []
        for start, end in spans:
            self._storages.append(_Storage(start, end, at + start % _ALIGNMENT))
            at += _room(start, end)

    def moved(self, address: int) -> int:
        """The address that a byte of a storage has in its copy; any other address is returned as it is."""
        for storage in self._storages:
            if storage.start <= address < storage.end:
                return address - storage.start + storage.copy
        return address

    def copied_in(self, runs: Iterable[Range]) -> list[Range]:
        """Copies these bytes of the tensors, and returns where they are now."""
        return [self._copied(run) for run in runs]

    def _copied(self, run: Range) -> Range:
        copy = self.moved(run.base)
        ctypes.memmove(copy, run.base, run.bytes)
        return Range(copy, run.bytes, run.buffer, run.offset)

    def copy_out(self, runs: Iterable[Range]) -> None:
        """Copies these bytes of the tensors, as they are in the copies, back into the tensors."""
        for run in runs:
            ctypes.memmove(run.base, self.moved(run.base), run.bytes)

    def close(self) -> None:
        """Gives the memory back; the copies are no more."""
        del self._first  # a mapping that something points into cannot be closed
        self._memory.close()


def _room(start: int, end: int) -> int:
    """Bytes that a copy takes with the gap behind it, a whole number of pages."""
    return -(-(_ALIGNMENT + end - start) // _PAGE) * _PAGE + GAP


def _spans(tensors: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    """First and last address of every storage, those that overlap as one; in the order of the tensors."""
    found: list[tuple[int, int]] = []
    for tensor in tensors:
        storage = tensor.untyped_storage()
        start, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
        if start == end:
            continue
        place = len(found)
        for other in [each for each in found if start < each[1] and each[0] < end]:
            place = min(place, found.index(other))
            found.remove(other)
            start, end = min(start, other[0]), max(end, other[1])
        found.insert(place, (start, end))
    return found
