"""Launches of compiled kernels through CuPy, on the stream that torch uses.

CuPy passes a NumPy array of one element by value, whatever its type: the kernel's whole parameter travels as one `void`
of its size. It only launches; memory is torch's.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import torch

from quant.kernels.runtime.architectures import Architecture, of_capability
from quant.kernels.runtime.cubins import cubin_path
from quant.kernels.runtime.errors import INSTALL, KernelError, one_line
from quant.kernels.runtime.launch import Build, Launch
from quant.kernels.runtime.tensor_maps import fill


class _Loaded(NamedTuple):
    """A kernel on one device, the context manager that makes the device current, and the shared memory left to it."""

    kernel: Any
    device: Any
    dynamic_shared_bytes: int


class _Stream(NamedTuple):
    """What CuPy asks of a stream it launches on.

    CuPy's own wrappers are avoided: inside `with`, they take torch's default stream for the thread's own one when
    CUPY_CUDA_PER_THREAD_DEFAULT_STREAM is set, and their name changed in CuPy 14.
    """

    ptr: int


_loaded: dict[tuple[int, Build], _Loaded] = {}
_loading = threading.Lock()


def run(launch: Launch, device: torch.device) -> None:
    """Queues a launch on torch's current stream of `device`; nothing is waited for and nothing allocated.

    A build's first launch on a device compiles and loads it, which a CUDA graph cannot capture: `prepare` it before.
    Later launches can be captured.

    Args:
        launch: what to launch. No blocks: nothing happens.
        device: where the tensors are, whose addresses `launch.arguments` holds.

    Raises:
        KernelError: the kernel cannot be compiled, loaded or given this much shared memory, or a capture is under way
            and the build is not loaded.
    """
    if launch.grid == 0:
        return
    index = device_index(device)
    loaded = _loaded.get((index, launch.build)) or _load(launch.build, index)
    if launch.shared_bytes > loaded.dynamic_shared_bytes:
        raise KernelError(
            f"{launch.build.kernel} is launched with {launch.shared_bytes} bytes of dynamic shared memory; "
            f"{device} has {loaded.dynamic_shared_bytes} for it"
        )
    fill(launch)
    parameter = np.frombuffer(bytes(launch.arguments), dtype=np.dtype((np.void, ctypes.sizeof(launch.arguments))))
    # Read at every launch: a stream remembered from an earlier one would leave a captured graph empty.
    stream = _Stream(torch.cuda.current_stream(index).cuda_stream)
    with loaded.device:
        loaded.kernel(
            (launch.grid, 1, 1), (*launch.block, 1), (parameter,), shared_mem=launch.shared_bytes, stream=stream
        )


def prepare(builds: Iterable[Build], device: torch.device) -> None:
    """Compiles and loads builds on `device`, so that launching them takes no time and can be captured in a CUDA graph.

    Raises:
        KernelError: one cannot be compiled or loaded, or a capture is under way.
    """
    index = device_index(device)
    for build in builds:
        if (index, build) not in _loaded:
            _load(build, index)


def device_index(device: torch.device) -> int:
    """Its index; that of the current device where it has none."""
    return torch.cuda.current_device() if device.index is None else device.index


def device_architecture(index: int) -> Architecture:
    """The architecture of a CUDA device.

    Raises:
        KernelError: the kernels are not written for it.
    """
    if torch.version.hip is not None:  # its capabilities look like NVIDIA's: an MI250 is (9, 0) too
        raise KernelError("the CUDA kernels need an NVIDIA GPU; this torch is built for ROCm")
    return of_capability(torch.cuda.get_device_capability(index))


def import_cupy() -> Any:
    """The module `cupy`, imported when a kernel is first launched: it takes a second, and a CPU has no use for it.

    Raises:
        KernelError: it is not installed, or broken.
    """
    try:
        import cupy
    except ImportError as error:
        # CuPy wraps the reason in a page of advice.
        raise KernelError(f"CuPy cannot be imported ({one_line(error.__cause__ or error)}): {INSTALL}") from error
    return cupy


def _load(build: Build, index: int) -> _Loaded:
    with _loading:
        key = (index, build)
        if key not in _loaded:
            _loaded[key] = _load_now(build, index)
        return _loaded[key]


def _load_now(build: Build, index: int) -> _Loaded:
    if torch.cuda.is_current_stream_capturing():
        raise KernelError(
            f"{build.kernel} is not loaded yet, and loading cannot be captured in a CUDA graph: run once before the "
            "capture, or call quant.kernels.runtime.cupy_launch.prepare"
        )
    architecture = device_architecture(index)
    cupy = import_cupy()
    path = cubin_path(build, architecture.name)
    device = cupy.cuda.Device(index)
    with device:
        try:
            kernel = cupy.RawModule(path=str(path)).get_function(build.kernel)
            # More than 48 KiB has to be asked for. Asking once for all there is costs nothing, a launch uses what it
            # says, and the call makes a lazy driver load the code now.
            left = architecture.shared_bytes_per_block - kernel.shared_size_bytes
            kernel.max_dynamic_shared_size_bytes = left
        except RuntimeError as error:  # CuPy's CUDADriverError
            raise KernelError(
                f"the driver does not load {path.name} ({one_line(error)}): update it, or {INSTALL}"
            ) from error
    return _Loaded(kernel, device, left)
