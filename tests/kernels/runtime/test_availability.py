"""What a machine lacks is said in words, before a model depends on it, and never raised."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch

from quant.kernels.runtime import nvrtc
from quant.kernels.runtime.architectures import Architecture
from quant.kernels.runtime.availability import reason
from quant.kernels.runtime.errors import INSTALL, KernelError
from tests.kernels.runtime.conftest import Machine
from tests.kernels.runtime.fake_cupy import fake_cupy

CUDA = torch.device("cuda", 0)


@pytest.mark.parametrize("device", [torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cuda")])
def test_a_machine_that_has_everything(machine: Machine, device: torch.device) -> None:
    assert reason(device) is None


def test_another_type_of_device(machine: Machine) -> None:
    assert reason(torch.device("cpu")) == "runs on cuda, not on cpu"


def test_no_device(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert reason(CUDA) == "torch sees no CUDA device"


def test_a_device_there_is_not(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason(torch.device("cuda", 3)) == "torch sees 3 CUDA devices, not cuda:3"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert reason(torch.device("cuda", 4)) == "torch sees 1 CUDA device, not cuda:4"


def test_an_architecture_that_no_kernel_is_written_for(machine: Machine) -> None:
    says = "sm_87 is not supported; the kernels are written for sm_80, sm_86, sm_89, sm_90a"
    assert reason(torch.device("cuda", 2)) == says


def test_a_torch_for_rocm(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert reason(CUDA) == "the CUDA kernels need an NVIDIA GPU; this torch is built for ROCm"


@pytest.mark.parametrize(
    ("module", "says"), [("cupy", "CuPy cannot be imported"), ("cuda.bindings", "cuda-bindings cannot be imported")]
)
def test_a_missing_package(machine: Machine, monkeypatch: pytest.MonkeyPatch, module: str, says: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    found = reason(CUDA)
    assert found is not None
    assert found.startswith(says)
    assert found.endswith(INSTALL)


def test_a_broken_cupy_gives_its_reason_in_one_line(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """CuPy answers a missing library with a page of advice around the error that matters."""

    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "cupy":
                raise ImportError("\n=====\nFailed to import CuPy.\n=====") from ImportError("libcudart.so.13:\nnone")

    monkeypatch.delitem(sys.modules, "cupy")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    assert reason(CUDA) == f"CuPy cannot be imported (libcudart.so.13: none): {INSTALL}"


def test_an_nvrtc_that_is_missing_or_too_old(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(needs: Architecture) -> None:
        raise KernelError(f"not for {needs.name}")

    monkeypatch.setattr(nvrtc, "require", refuse)
    assert reason(CUDA) == "not for sm_90a"
    assert reason(torch.device("cuda", 1)) == "not for sm_86"


@pytest.mark.parametrize(
    ("driver", "compiler", "fits"),
    [(13000, (13, 5), True), (12080, (12, 9), True), (13050, (12, 9), True), (12080, (13, 5), False)],
)
def test_a_driver_older_than_the_compiler(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, driver: int, compiler: tuple[int, int], fits: bool
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(machine.cupy, driver=driver))
    monkeypatch.setattr(nvrtc, "version", lambda: compiler)
    refused = f"the driver is for CUDA 12.8, but NVRTC 13.5 is installed: update the driver, or {INSTALL}"
    assert reason(CUDA) == (None if fits else refused)


def test_a_driver_that_does_not_work(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise RuntimeError("cudaErrorSystemDriverMismatch:\nreboot")

    cupy: ModuleType = fake_cupy(machine.cupy)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cupy.cuda.runtime, "driverGetVersion", fail)
    assert reason(CUDA) == "cudaErrorSystemDriverMismatch: reboot"


def test_the_answer_is_found_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reason(CUDA) is None
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert reason(CUDA) is None
    assert reason(torch.device("cuda", 1)) is not None
