"""Tensor maps as the hardware has them: 128 bytes that the driver encodes.

The driver is called through ctypes: it wants memory aligned to 64 bytes, which the objects of cuda-bindings are only by
chance (NVIDIA/cuda-python #1692).
"""

from __future__ import annotations

import ctypes
from functools import cache, lru_cache

from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.launch import Launch, TensorMap

BYTES, ALIGNMENT = 128, 64
#: Of `CUtensorMapDataType`, `CUtensorMapInterleave`, `CUtensorMapSwizzle`, `CUtensorMapL2promotion` and
#: `CUtensorMapFloatOOBfill` in cuda.h.
_UINT8, _NO_INTERLEAVE, _PROMOTE_256B, _ZEROS = 0, 0, 3, 0
_SWIZZLES = {0: 0, 64: 2, 128: 3}


def fill(launch: Launch) -> None:
    """Writes the maps of a launch into its arguments.

    Raises:
        KernelError: there is no driver that knows tensor maps, or it refuses one.
    """
    for name, tensor_map in launch.maps:
        field = getattr(type(launch.arguments), name)
        ctypes.memmove(ctypes.addressof(launch.arguments) + field.offset, encoded(tensor_map), BYTES)


@lru_cache(maxsize=4096)
def encoded(tensor_map: TensorMap) -> bytes:
    """The map as `cuTensorMapEncodeTiled` makes it: bytes, zeros outside.

    Remembered, because weights stay where they are and activations come back to the same places.

    Raises:
        KernelError: there is no driver that knows tensor maps, or it refuses this one; a swizzle that nothing here has.
    """
    if tensor_map.swizzle not in _SWIZZLES:
        raise KernelError(f"{tensor_map}: the swizzle is 0, 64 or 128")
    memory = ctypes.create_string_buffer(BYTES + ALIGNMENT)
    start = -ctypes.addressof(memory) % ALIGNMENT
    status = _driver().cuTensorMapEncodeTiled(
        ctypes.c_void_p(ctypes.addressof(memory) + start),
        _UINT8,
        2,
        ctypes.c_void_p(tensor_map.address),
        (ctypes.c_uint64 * 2)(tensor_map.row_bytes, tensor_map.rows),
        (ctypes.c_uint64 * 1)(tensor_map.stride),
        (ctypes.c_uint32 * 2)(tensor_map.box_bytes, tensor_map.box_rows),
        (ctypes.c_uint32 * 2)(1, 1),
        _NO_INTERLEAVE,
        _SWIZZLES[tensor_map.swizzle],
        _PROMOTE_256B,
        _ZEROS,
    )
    if status != 0:
        raise KernelError(f"the driver refuses {tensor_map}: CUDA error {status}")
    return memory.raw[start : start + BYTES]


@cache
def _driver() -> ctypes.CDLL:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        driver.cuTensorMapEncodeTiled.restype = ctypes.c_int
    except (OSError, AttributeError) as error:
        raise KernelError(f"no NVIDIA driver that knows tensor maps ({error}): CUDA 12 brought them") from error
    return driver
