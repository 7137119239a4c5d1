"""What the driver is asked for a tensor map, with a driver that notes it down."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from cuda.bindings import driver as cuda

from quant.kernels.host.structures import HopperArguments
from quant.kernels.runtime import tensor_maps
from quant.kernels.runtime.errors import KernelError
from quant.kernels.runtime.launch import Build, Launch, TensorMap

MAP = TensorMap(address=0x7F0000000010, rows=1000, row_bytes=256, stride=272, box_rows=64)


class Driver:
    """Answers with the number of the call in every byte, or with an error."""

    def __init__(self, status: int = 0) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.status = status

    def encode(self, memory: ctypes.c_void_p, *rest: Any) -> int:
        assert memory.value is not None
        assert memory.value % 64 == 0
        self.calls.append(tuple(list(each) if isinstance(each, ctypes.Array) else each for each in rest))
        ctypes.memset(memory.value, len(self.calls), 128)
        return self.status


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Driver]:
    found = Driver()
    monkeypatch.setattr(tensor_maps, "_driver", lambda: SimpleNamespace(cuTensorMapEncodeTiled=found.encode))
    tensor_maps.encoded.cache_clear()
    yield found
    tensor_maps.encoded.cache_clear()


@pytest.mark.parametrize(
    ("described", "swizzle"),
    [
        (MAP, cuda.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B),
        (MAP._replace(swizzle=64), cuda.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_64B),
        (MAP._replace(swizzle=0), cuda.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_NONE),
    ],
)
def test_a_map_is_bytes_swizzled_as_it_says(driver: Driver, described: TensorMap, swizzle: object) -> None:
    assert tensor_maps.encoded(described) == b"\x01" * 128
    (kind, rank, address, sizes, strides, box, steps, *modes) = driver.calls[0]
    assert (kind, rank) == (int(cuda.CUtensorMapDataType.CU_TENSOR_MAP_DATA_TYPE_UINT8), 2)
    assert address.value == MAP.address
    assert (sizes, strides, box, steps) == ([256, 1000], [272], [128, 64], [1, 1])
    assert modes == [
        int(cuda.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE),
        int(swizzle),  # type: ignore[call-overload]
        int(cuda.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B),
        int(cuda.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
    ]


def test_a_map_is_made_once(driver: Driver) -> None:
    tensor_maps.encoded(MAP)
    tensor_maps.encoded(MAP._replace())
    tensor_maps.encoded(MAP._replace(address=MAP.address + 16))
    assert len(driver.calls) == 2
    tensor_maps.encoded(MAP._replace(swizzle=64))
    assert len(driver.calls) == 3


def test_another_swizzle_is_refused_before_the_driver_is_asked(driver: Driver) -> None:
    with pytest.raises(KernelError, match=r"swizzle=32\): the swizzle is 0, 64 or 128"):
        tensor_maps.encoded(MAP._replace(swizzle=32))
    assert driver.calls == []


def test_maps_are_put_into_the_fields_that_a_launch_names(driver: Driver) -> None:
    arguments = HopperArguments(m=7)
    other = MAP._replace(rows=5)
    tensor_maps.fill(Launch(Build("x", ()), 1, (32, 1), 0, arguments, (("b", MAP), ("out", other))))
    assert (bytes(arguments.a), bytes(arguments.b), bytes(arguments.out)) == (bytes(128), b"\x01" * 128, b"\x02" * 128)
    assert arguments.m == 7


def test_a_refusal_is_an_error_that_shows_the_map(driver: Driver) -> None:
    driver.status = 1
    with pytest.raises(KernelError, match=r"refuses TensorMap\(address=139637976727568, rows=1000.*CUDA error 1"):
        tensor_maps.encoded(MAP)


def test_without_a_driver_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> ctypes.CDLL:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    tensor_maps._driver.cache_clear()
    with pytest.raises(KernelError, match="no NVIDIA driver that knows tensor maps"):
        tensor_maps._driver()
