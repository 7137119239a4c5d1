"""One safetensors file that several threads fill, a piece at a time, and that is read back when it is full."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from quant.checkpoint.shards import FileTensor, file_header, raw_bytes
from quant.errors import CheckpointError

#: Bytes after which the disk is asked to begin, so that it does not idle until the end.
_FLUSHED = 1 << 26


class ShardFile:
    """A file that is being filled, from any thread."""

    def __init__(self, path: Path, tensors: Mapping[str, FileTensor], metadata: Mapping[str, str]) -> None:
        self.path, self._tensors = path, tensors
        head, self._places = file_header(tensors, metadata)
        self._done = dict.fromkeys(tensors, 0)
        self._written: dict[str, list[tuple[int, int]]] = {name: [] for name in tensors}
        self._left = sum(tensor.nbytes for tensor in tensors.values())
        self._lock, self._unflushed = threading.Lock(), 0
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        _write(self._handle, memoryview(head), 0)
        os.ftruncate(self._handle, len(head) + self._left)
        self._head = head

    def put(self, name: str, made: torch.Tensor) -> bool:
        """Writes the next rows of a tensor; says whether the file is full."""
        planned = self._tensors[name]
        data = raw_bytes(made)
        at = self._done[name]
        if made.dtype != planned.dtype or at + len(data) > planned.nbytes:
            raise AssertionError(
                f"{name}: planned {planned.dtype} {planned.shape}, made {made.dtype} {tuple(made.shape)} at byte {at}"
            )
        self._written[name].append((len(data), _checksum(data)))
        self._done[name] = at + len(data)
        with self._lock:
            _write(self._handle, data, self._places[name] + at)
            self._left -= len(data)
            self._unflushed += len(data)
            return self._left == 0

    def flush(self) -> None:
        """Asks the disk to begin with what it has not begun with."""
        if self._unflushed >= _FLUSHED and self._handle >= 0:
            self._unflushed = 0
            os.fdatasync(self._handle)

    def finish(self) -> str:
        """Closes the full file, on the disk; returns its SHA-256, of the bytes as they read back.

        Raises:
            CheckpointError: they are not those that were written.
        """
        with ThreadPoolExecutor(1) as disk:
            on_disk = disk.submit(os.fsync, self._handle)
            digest = self._digest()
            on_disk.result()
        self.close()
        return digest

    def _digest(self) -> str:
        found = hashlib.sha256()
        largest = max(size for size, _, _ in self._pieces())
        buffer = torch.empty(largest, dtype=torch.uint8).numpy().data  # aligned, which the system copies faster into
        for size, checksum, at in self._pieces():
            data = buffer[:size]
            if os.preadv(self._handle, [data], at) != size or _checksum(data) != checksum:
                raise CheckpointError(f"{self.path}: does not read back as it was written; is the disk sound?")
            found.update(data)
        return found.hexdigest()

    def _pieces(self) -> Iterator[tuple[int, int, int]]:
        """Size, checksum and place of everything that was written, in the file's order."""
        yield len(self._head), _checksum(self._head), 0
        for name, at in self._places.items():
            for size, checksum in self._written[name]:
                yield size, checksum, at
                at += size

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def lacking(self) -> list[str]:
        """Names of tensors that are not whole."""
        return [name for name, done in self._done.items() if done < self._tensors[name].nbytes]


def _checksum(data: bytes | bytearray | memoryview) -> int:
    """The sum of 64-bit words, of which one that was changed on its way to the disk and back is known."""
    count = len(data) // 8
    words = np.frombuffer(data, np.uint64, count)
    return (int(words.sum(dtype=np.uint64)) + int.from_bytes(data[8 * count :], "little")) % 2**64


def _write(handle: int, data: memoryview, at: int) -> None:
    while data:
        count = os.pwrite(handle, data, at)
        data, at = data[count:], at + count
