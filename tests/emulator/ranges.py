"""Which bytes of memory a tensor's elements are in."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Sequence
from itertools import product

import torch


class Range(ctypes.Structure):
    """A run of bytes of one buffer, as runtime/memory.h has it."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("bytes", ctypes.c_uint64),
        ("buffer", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
    )


def ranges(tensor: torch.Tensor, buffer: int) -> Iterator[Range]:
    """The runs of bytes between which a tensor has gaps; a contiguous tensor is one.

    Args:
        tensor: on the CPU, of any strides.
        buffer: its number in a launch.

    Raises:
        ValueError: it is not on the CPU.
    """
    if tensor.device.type != "cpu":
        raise ValueError(f"buffer {buffer} is on {tensor.device}; the emulator reads those of the CPU")
    if tensor.numel() == 0:
        return
    run = tensor.element_size()
    steps: list[tuple[int, int]] = []  # size and stride, in bytes, of each dimension that is no part of a run
    sizes = zip(tensor.shape, tensor.stride(), strict=True)
    for size, stride in sorted(((size, stride * tensor.element_size()) for size, stride in sizes), key=lambda x: x[1]):
        if size == 1 or stride == 0:
            continue
        if stride == run and not steps:
            run = size * stride
        else:
            steps.append((size, stride))
    for indices in product(*(range(size) for size, _ in steps)):
        offset = sum(index * stride for index, (_, stride) in zip(indices, steps, strict=True))
        yield Range(tensor.data_ptr() + offset, run, buffer, offset)


def disjoint(runs: Iterable[Range], writable: Sequence[bool]) -> list[Range]:
    """The same bytes, each in one run only: where read-only buffers share memory, the first one has it.

    Args:
        runs: of all buffers.
        writable: for each buffer.

    Raises:
        ValueError: a writable buffer overlaps another.
    """
    found: list[Range] = []
    for run in sorted(runs, key=lambda each: (int(each.base), int(each.buffer))):
        last = found[-1] if found else None
        if last is None or run.base >= last.base + last.bytes:
            found.append(run)
            continue
        if writable[last.buffer] or writable[run.buffer]:
            raise ValueError(f"buffers {last.buffer} and {run.buffer} overlap, and a kernel may write one of them")
        last.bytes = max(last.bytes, run.base + run.bytes - last.base)
    return found
