"""CuPy as a launch sees it, without a GPU: it records what it is asked, with the signatures and checks of CuPy 14."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


@dataclass
class Record:
    """What was asked of CuPy.

    Attributes:
        paths: files that were loaded, each with the device that was current.
        shared: values of `max_dynamic_shared_size_bytes`, likewise.
        launches: one dictionary a launch.
        current: index of the current device.
    """

    paths: list[tuple[str, int]] = field(default_factory=list)
    shared: list[tuple[int, int]] = field(default_factory=list)
    launches: list[dict[str, Any]] = field(default_factory=list)
    current: int = 0


class _Kernel:
    """What `RawModule.get_function` returns."""

    shared_size_bytes = 128  # static

    def __init__(self, record: Record, name: str) -> None:
        self._record, self._name = record, name

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "max_dynamic_shared_size_bytes":
            self._record.shared.append((value, self._record.current))
        super().__setattr__(name, value)

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0, stream: Any = None) -> None:
        (parameter,) = args
        # CuPy passes an array by value where it has one element, and reads it through this interface.
        assert isinstance(parameter, np.ndarray)
        assert parameter.size == 1
        assert parameter.__array_interface__["data"][0]
        launch = {
            "name": self._name,
            "grid": grid,
            "block": block,
            "bytes": parameter.tobytes(),
            "itemsize": parameter.itemsize,
            "shared": shared_mem,
            "stream": None if stream is None else stream.ptr,
            "device": self._record.current,
        }
        self._record.launches.append(launch)


def fake_cupy(record: Record, driver: int = 13050, error: Exception | None = None) -> ModuleType:
    """A module `cupy`.

    Args:
        record: filled by what is asked.
        driver: CUDA version of the driver, 12080 for 12.8.
        error: raised where a file is loaded.
    """

    class Device:
        """`cupy.cuda.Device`."""

        def __init__(self, index: int) -> None:
            self.index = index
            self.before: list[int] = []

        def __enter__(self) -> None:
            self.before.append(record.current)
            record.current = self.index

        def __exit__(self, *_: object) -> None:
            record.current = self.before.pop()

    class RawModule:
        """`cupy.RawModule`."""

        def __init__(self, *, path: str) -> None:
            assert isinstance(path, str)
            if error is not None:
                raise error
            record.paths.append((path, record.current))

        def get_function(self, name: str) -> _Kernel:
            return _Kernel(record, name)

    module = ModuleType("cupy")
    runtime = SimpleNamespace(driverGetVersion=lambda: driver)
    vars(module).update(RawModule=RawModule, cuda=SimpleNamespace(Device=Device, runtime=runtime))
    return module
