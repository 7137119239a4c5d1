"""safetensors files filled by several threads: each takes a part, makes it piece by piece and puts it in its place.

Reading, arithmetic, writing and hashing overlap, and what is in memory does not grow with the model. Only one thread
writes into a file at a time: several are slower than one. A file's SHA-256 goes over its bytes in their order, and
scales, which lie first, are known last; so a finished file is read back, from memory as a rule, while the next is made.
That also compares every tensor with what was handed to the disk.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import torch

from quant.checkpoint.shard_file import ShardFile
from quant.checkpoint.shards import (
    WEIGHTS,
    FileTensor,
    Part,
    file_header,
    named,
    plan_shards,
    shard_names,
    write_index,
)
from quant.devices import one_thread_each, worker_threads

#: Seconds between two looks at what is not on its way to the disk.
_PAUSE = 0.2


class _StoppedError(Exception):
    """Another thread failed, or the user has had enough."""


def write_shards(
    folder: Path,
    parts: Sequence[Part],
    *,
    stem: str = WEIGHTS,
    max_bytes: int = 10 * 10**9,
    metadata: Mapping[str, str] = MappingProxyType({}),
    on_file: Callable[[str, str], None] = lambda name, digest: None,
    finished: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Writes tensors as one safetensors file, or several with an index as diffusers names them.

    Args:
        folder: exists.
        parts: what makes the tensors, in their order; each is made once, by one of as many threads as there are cores.
        stem: file name without number and extension.
        max_bytes: largest size of a file's tensors.
        metadata: goes into the header of every file.
        on_file: called with name and SHA-256 of each file of tensors as it is finished, one at a time.
        finished: files that are there already with their SHA-256: nothing of those is made that begin as this call
            would begin them.

    Returns:
        SHA-256 by file name.

    Raises:
        AssertionError: a part does not make what it planned.
        CheckpointError: a file does not read back as it was written.
        OSError: the disk refuses.
    """
    tensors = named(parts)
    shards = plan_shards(tensors, max_bytes)
    names = shard_names(len(shards), stem)
    weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    files = {name: {each: tensors[each] for each in shard} for name, shard in zip(names, shards, strict=True)}
    hashes = {
        name: digest
        for name, digest in finished.items()
        if name in files and _begins(folder / name, file_header(files[name], metadata)[0])
    }
    missing = {name: file for name, file in files.items() if name not in hashes}
    for name, digest in _filled(folder, missing, parts, metadata):
        hashes[name] = digest
        on_file(name, digest)
    if len(shards) > 1:
        name, digest = write_index(folder, weight_map, sum(tensor.nbytes for tensor in tensors.values()), stem)
        hashes[name] = digest
    return hashes


def _filled(
    folder: Path, planned: Mapping[str, Mapping[str, FileTensor]], parts: Sequence[Part], metadata: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Fills files by name; gives each with its SHA-256 as it is finished, which this thread sees to."""
    filling = _Filling(folder, planned, parts, metadata)
    threads = [threading.Thread(target=filling.work, daemon=True) for _ in range(worker_threads())]
    left = set(planned)
    with one_thread_each():
        try:
            for thread in threads:
                thread.start()
            while left:
                full = filling.next_full(threads)
                yield full.path.name, full.finish()
                left.remove(full.path.name)
        finally:
            filling.stop.set()
            for thread in threads:
                thread.join()
            filling.close()


class _Filling:
    """Parts on their way into files: what the threads share."""

    def __init__(
        self,
        folder: Path,
        planned: Mapping[str, Mapping[str, FileTensor]],
        parts: Sequence[Part],
        metadata: Mapping[str, str],
    ) -> None:
        self.stop = threading.Event()
        self._folder, self._planned, self._metadata = folder, planned, metadata
        self._file_names = {tensor: name for name, tensors in planned.items() for tensor in tensors}
        self._parts = iter([part for part in parts if any(name in self._file_names for name in part.tensors)])
        self._lock = threading.Lock()
        self._files: dict[str, ShardFile] = {}
        self._events: queue.SimpleQueue[ShardFile | BaseException] = queue.SimpleQueue()
        for name, tensors in planned.items():
            if not any(tensor.nbytes for tensor in tensors.values()):  # no last byte will ever be put
                self._events.put(self._file(name))

    def work(self) -> None:
        """Makes one part after another until there is none, or something goes wrong."""
        try:
            while not self.stop.is_set():
                with self._lock:
                    part = next(self._parts, None)
                if part is None:
                    return
                part.make(self._put)
        except _StoppedError:
            pass
        except BaseException as error:  # of any kind: another thread raises it
            self._events.put(error)

    def next_full(self, threads: Sequence[threading.Thread]) -> ShardFile:
        """The next file that is full; raises what went wrong in a thread."""
        while True:
            working = any(thread.is_alive() for thread in threads)
            try:
                event = self._events.get(timeout=_PAUSE if working else 0)
            except queue.Empty:
                for file in list(self._files.values()):
                    file.flush()
                if working:
                    continue
                raise AssertionError(f"{self._lacking()}: planned, and not made whole") from None
            if isinstance(event, BaseException):
                raise event
            return event

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def _put(self, name: str, made: torch.Tensor) -> None:
        if self.stop.is_set():
            raise _StoppedError
        file_name = self._file_names.get(name)
        if file_name is None:  # the part lies in two files, and the other one was finished before
            return
        file = self._file(file_name)
        if file.put(name, made):
            self._events.put(file)

    def _file(self, name: str) -> ShardFile:
        with self._lock:
            if name not in self._files:
                self._files[name] = ShardFile(self._folder / name, self._planned[name], self._metadata)
            return self._files[name]

    def _lacking(self) -> str:
        """The first tensor that is not whole, of files that were begun or not."""
        lacking = (self._file(name).lacking() for name in self._planned)
        return next(tensor for tensors in lacking for tensor in tensors)


def _begins(path: Path, head: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(head)) == head
