"""Whether this machine can run the CUDA kernels, found out before a model depends on it."""

from __future__ import annotations

from functools import cache

import torch

from quant.kernels.runtime import nvrtc
from quant.kernels.runtime.cupy_launch import device_architecture, device_index, import_cupy
from quant.kernels.runtime.errors import INSTALL, KernelError, one_line


def reason(device: torch.device) -> str | None:
    """Why the CUDA kernels cannot run on `device`, in words; None where they can. Never raises.

    The answer is found once for each device and process: packages installed later need a new one.
    """
    if device.type != "cuda":
        return f"runs on cuda, not on {device.type}"
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    return _reason(device_index(device))


@cache
def _reason(index: int) -> str | None:
    count = torch.cuda.device_count()
    if index >= count:
        return f"torch sees {count} CUDA device{'s' if count > 1 else ''}, not cuda:{index}"
    try:
        architecture = device_architecture(index)
        cupy = import_cupy()
        nvrtc.require(architecture)
        _require_driver(cupy.cuda.runtime.driverGetVersion())
    except RuntimeError as error:  # KernelError, and whatever CuPy finds in a driver that does not work
        return one_line(error)
    return None


def _require_driver(driver: int) -> None:
    """A driver loads machine code of its own major version and of older ones. Written as CUDA does: 12080 is 12.8."""
    major, minor = nvrtc.version()
    if driver // 1000 < major:
        raise KernelError(
            f"the driver is for CUDA {driver // 1000}.{driver % 1000 // 10}, but NVRTC {major}.{minor} is installed: "
            f"update the driver, or {INSTALL}"
        )
