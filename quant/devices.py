"""Where a pipeline runs: a device by name, checked before anything is loaded."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from quant.errors import QuantError
from quant.text import cut, first_line, shown

_MOST_THREADS = 8
#: How many threads torch had before each `one_thread_each` that has not ended.
_serial: list[int] = []
_serial_lock = threading.Lock()


def find_device(name: str | torch.device | None) -> torch.device:
    """The device of this machine that has a name; None takes CUDA where there is one, else the CPU.

    Raises:
        QuantError: torch knows no such device, or it is not here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    what = f"device {shown(str(name))}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds that torch once had
            found = torch.device(name)
    except RuntimeError:
        raise QuantError(f"{what} is none that torch knows: say cpu, cuda or cuda:1") from None
    if found.type == "cuda":
        # From the text, because torch keeps eight bits of the number: cuda:256 would be the first GPU.
        number = re.search(r":(\d+)$", str(name))
        if (int(number.group(1)) if number else 0) >= torch.cuda.device_count():
            raise QuantError(f"{what} is not here: torch sees {torch.cuda.device_count()} CUDA GPUs")
        return found
    if found.type == "meta":
        raise QuantError(f"{what} holds no numbers: say cpu, cuda or cuda:1")
    try:
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, ImportError):  # NotImplementedError is a RuntimeError
        raise QuantError(f"{what} is not here: torch has no use of it on this machine") from None
    return found


def usable_cores() -> int:
    """How many of the machine's cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_threads() -> int:
    """How many threads read or write a checkpoint's tensors: more would be more memory, which no disk keeps up with."""
    return min(usable_cores(), _MOST_THREADS)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Within it torch has no threads of its own: where there is a thread for every core, they would wait in line.

    It counts for the whole process: of several that overlap, the last one to end gives torch its threads back.
    """
    with _serial_lock:
        _serial.append(torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _serial_lock:
            last = _serial.pop()  # the first one's, where only that is left
            if not _serial:
                torch.set_num_threads(last)


def memory_lacking(error: BaseException) -> str | None:
    """What to say where an error is that memory was not enough, of this machine or of a GPU; None for any other."""
    # torch's allocator for the CPU raises a plain RuntimeError.
    if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
        return None
    detail = "" if isinstance(error, MemoryError) else f" ({cut(first_line(error), 200)})"
    return f"out of memory{detail}: take fewer or smaller frames, a smaller hessian_gb in the recipe, or another device"
