"""A GPU played by the emulator: ops on CPU tensors run by the CUDA kernels of an architecture, whole models with them.

Everything between an op's call and the launch is the real thing: dispatch, the order of weights, tiles, host plans.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from quant.kernels import choosing, compiled, tile_tables
from quant.kernels.dispatch import Call
from quant.kernels.matmuls.table import KERNELS
from quant.kernels.runtime import cupy_launch
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.runtime.launch import Launch
from tests.kernels.emulated import launched, poison


@contextmanager
def pretended(
    arch: str, run: Callable[[Launch, torch.device], None], multiprocessors: int | None = None
) -> Iterator[pytest.MonkeyPatch]:
    """Within it, every call is about a GPU of this architecture, and a launch goes to `run`.

    Args:
        arch: which.
        run: in the place of `cupy_launch.run`.
        multiprocessors: of the GPU; None for as many as its card has.
    """
    here = ARCHITECTURES[arch]

    def on_device(call: Call, device: torch.device) -> Call:
        return replace(call, device="cuda", capability=here.capability)

    def forget() -> None:
        compiled.forget_tiles()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cupy_launch, "run", run)
        patch.setattr(cupy_launch, "device_index", lambda device: 0)
        patch.setattr(cupy_launch, "device_architecture", lambda index: here)
        properties = SimpleNamespace(multi_processor_count=multiprocessors or here.multiprocessors)
        patch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
        patch.setattr(tile_tables, "load", lambda name: ())
        patch.setattr(choosing, "on_device", on_device)
        forget()
        yield patch
        forget()


@contextmanager
def emulated(arch: str, multiprocessors: int | None = None) -> Iterator[list[str]]:
    """Within it, the emulator plays a GPU of this architecture; gives the kernels it ran. Arguments of `pretended`."""
    plans: dict[int, Any] = {}
    ran: list[str] = []

    def remembering(planned_by: Callable[..., Any]) -> Callable[..., Any]:
        """A launch has only addresses; the emulator wants to know the tensors."""

        def remembered(*arguments: Any, **named: Any) -> Any:
            planned = planned_by(*arguments, **named)
            plans[ctypes.addressof(planned.launch.arguments)] = planned
            return planned

        return remembered

    def run(launch: Launch, device: torch.device) -> None:
        planned = plans.pop(ctypes.addressof(launch.arguments))
        results = [each for each in planned if isinstance(each, torch.Tensor)]
        for result in results if launch.grid else ():
            poison(result)
        launched(launch, planned.held, results, arch, 0, "random", None)
        ran.append(launch.build.kernel)

    with pretended(arch, run, multiprocessors) as patch:
        for skeleton in {type(kernel) for kernel in KERNELS}:
            patch.setattr(skeleton, "planned", remembering(skeleton.planned))
        yield ran
    assert not plans
