"""A launch reaches CuPy with the right bytes, stream and device; loading happens once, ahead of a capture."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from quant.kernels.runtime import cupy_launch, tensor_maps
from quant.kernels.runtime.cupy_launch import device_architecture, prepare, run
from quant.kernels.runtime.errors import INSTALL, KernelError
from quant.kernels.runtime.launch import Build, Launch, TensorMap
from tests.kernels.runtime.conftest import Machine
from tests.kernels.runtime.fake_cupy import fake_cupy


class Arguments(ctypes.Structure):
    """A kernel's parameter, of a size that has padding."""

    _fields_ = [("x", ctypes.c_uint64), ("rows", ctypes.c_int32), ("eps", ctypes.c_float), ("flag", ctypes.c_int8)]


BUILD = Build("tiny", (("COUNT", 3),))
ARGUMENTS = Arguments(0x1234_5678_9ABC, 77, 1e-6, -1)
LAUNCH = Launch(BUILD, 12, (32, 4), 1000, ARGUMENTS)
CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Build, str]]:
    """What was compiled; the files are named after it."""
    asked: list[tuple[Build, str]] = []

    def path_of(build: Build, arch: str) -> Path:
        asked.append((build, arch))
        return Path(f"/cache/{build.kernel}-{arch}.cubin")

    monkeypatch.setattr(cupy_launch, "cubin_path", path_of)
    return asked


def test_a_launch_arrives_as_it_is(machine: Machine) -> None:
    machine.streams[0] = 0xBEEF
    run(LAUNCH, CUDA)
    assert machine.cupy.launches == [
        {
            "name": "tiny",
            "grid": (12, 1, 1),
            "block": (32, 4, 1),
            "bytes": bytes(ARGUMENTS),
            "itemsize": ctypes.sizeof(Arguments),
            "shared": 1000,
            "stream": 0xBEEF,
            "device": 0,
        }
    ]
    assert machine.cupy.paths == [("/cache/tiny-sm_90a.cubin", 0)]


def test_the_stream_is_read_at_every_launch(machine: Machine) -> None:
    for stream in (5, 0, 7):
        machine.streams[0] = stream
        run(LAUNCH, CUDA)
    assert [launch["stream"] for launch in machine.cupy.launches] == [5, 0, 7]


def test_the_arguments_are_read_at_every_launch(machine: Machine) -> None:
    for rows in (1, 2):
        run(LAUNCH._replace(arguments=Arguments(0, rows, 0.0, 0)), CUDA)
    assert [launch["bytes"] for launch in machine.cupy.launches] == [bytes(Arguments(0, rows)) for rows in (1, 2)]


def test_maps_are_filled_in_before_a_launch(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    class WithMaps(ctypes.Structure):
        _fields_ = (("rows", ctypes.c_uint64), ("a", ctypes.c_uint8 * 128), ("b", ctypes.c_uint8 * 128))

    encoded = [TensorMap(address, 8, 16, 16, 8) for address in (16, 32)]
    monkeypatch.setattr(tensor_maps, "encoded", lambda tensor_map: bytes([tensor_map.address]) * 128)
    launch = LAUNCH._replace(arguments=WithMaps(rows=7), maps=(("b", encoded[0]), ("a", encoded[1])), cluster=2)
    run(launch, CUDA)
    (found,) = machine.cupy.launches
    assert found["bytes"] == (7).to_bytes(8, "little") + bytes([32]) * 128 + bytes([16]) * 128
    # The size of clusters is the compiled kernel's: a launch says nothing of it.
    assert found["grid"] == (12, 1, 1)


def test_a_launch_without_maps_asks_no_driver(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_maps, "encoded", None)
    run(LAUNCH, CUDA)
    assert machine.cupy.launches[0]["bytes"] == bytes(ARGUMENTS)


def test_no_blocks_ask_for_no_maps(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver refuses a matrix without rows."""
    monkeypatch.setattr(tensor_maps, "encoded", None)
    run(LAUNCH._replace(grid=0, maps=(("x", TensorMap(16, 0, 16, 16, 8)),)), CUDA)
    assert machine.cupy.launches == []


def test_a_build_is_loaded_once_for_each_device(machine: Machine, compiled: list[tuple[Build, str]]) -> None:
    other = Build("tiny", (("COUNT", 4),))
    for build in (BUILD, other, BUILD):
        for index in (0, 1, 0):
            run(LAUNCH._replace(build=build), torch.device("cuda", index))
    assert compiled == [(BUILD, "sm_90a"), (BUILD, "sm_86"), (other, "sm_90a"), (other, "sm_86")]
    assert [index for _, index in machine.cupy.paths] == [0, 1, 0, 1]
    assert [launch["device"] for launch in machine.cupy.launches] == [0, 1, 0] * 3
    assert machine.cupy.current == 0


def test_threads_that_need_the_same_build_at_once_load_it_once(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, compiled: list[tuple[Build, str]]
) -> None:
    second = threading.Thread(target=run, args=(LAUNCH, CUDA))

    def start_another(build: Build, arch: str) -> Path:
        compiled.append((build, arch))
        if len(compiled) == 1:
            second.start()
            second.join(0.1)  # long enough to arrive here too, if it were let through
        return Path("tiny.cubin")

    monkeypatch.setattr(cupy_launch, "cubin_path", start_another)
    run(LAUNCH, CUDA)
    second.join()
    assert len(compiled) == 1
    assert len(machine.cupy.launches) == 2


def test_a_launch_of_what_is_loaded_waits_for_no_other_thread(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare([BUILD], CUDA)
    monkeypatch.setattr(cupy_launch, "_loading", None)
    run(LAUNCH, CUDA)
    assert len(machine.cupy.launches) == 1


def test_a_device_without_an_index_is_the_current_one(machine: Machine) -> None:
    machine.current = 1
    machine.streams[1] = 11
    run(LAUNCH, torch.device("cuda"))
    assert [(launch["device"], launch["stream"]) for launch in machine.cupy.launches] == [(1, 11)]


def test_all_shared_memory_that_is_not_static_may_be_used(machine: Machine) -> None:
    most = 227 * 1024 - 128
    run(LAUNCH._replace(shared_bytes=most), CUDA)
    assert machine.cupy.shared == [(most, 0)]
    assert machine.cupy.launches[0]["shared"] == most
    with pytest.raises(KernelError) as caught:
        run(LAUNCH._replace(shared_bytes=most + 1), CUDA)
    says = f"tiny is launched with {most + 1} bytes of dynamic shared memory; cuda:0 has {most} for it"
    assert str(caught.value) == says
    assert len(machine.cupy.launches) == 1


def test_no_blocks_is_no_launch(machine: Machine, compiled: list[tuple[Build, str]]) -> None:
    run(LAUNCH._replace(grid=0), CUDA)
    assert machine.cupy.launches == []
    assert compiled == []


def test_what_is_prepared_can_be_captured(machine: Machine, compiled: list[tuple[Build, str]]) -> None:
    prepare([BUILD, BUILD], CUDA)
    assert compiled == [(BUILD, "sm_90a")]
    machine.capturing = True
    prepare([BUILD], CUDA)
    run(LAUNCH, CUDA)
    assert len(machine.cupy.launches) == 1
    assert len(machine.cupy.shared) == 1


def test_loading_is_refused_while_a_graph_is_captured(machine: Machine, compiled: list[tuple[Build, str]]) -> None:
    machine.capturing = True
    with pytest.raises(KernelError, match=r"^tiny is not loaded yet, .* call quant\.kernels\.runtime\.cupy_launch"):
        run(LAUNCH, CUDA)
    assert compiled == []
    machine.capturing = False
    run(LAUNCH, CUDA)
    assert len(machine.cupy.launches) == 1


def test_an_unsupported_device(machine: Machine) -> None:
    with pytest.raises(KernelError, match=r"^sm_87 is not supported; the kernels are written for sm_80, sm_86"):
        run(LAUNCH, torch.device("cuda", 2))


def test_a_rocm_device_is_not_taken_for_a_hopper(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_architecture(0).name == "sm_90a"
    monkeypatch.setattr(torch.version, "hip", "7.0")
    with pytest.raises(KernelError, match="this torch is built for ROCm"):
        device_architecture(0)


def test_a_missing_cupy_says_what_to_install(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(KernelError, match=r"^CuPy cannot be imported \(.*\): ") as caught:
        run(LAUNCH, CUDA)
    assert str(caught.value).endswith(INSTALL)


def test_a_driver_that_refuses_the_file(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU:\nno kernel image")
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(machine.cupy, error=error))
    with pytest.raises(KernelError) as caught:
        run(LAUNCH, CUDA)
    assert str(caught.value) == (
        f"the driver does not load tiny-sm_90a.cubin (CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image): "
        f"update it, or {INSTALL}"
    )
    assert machine.cupy.current == 0


#: Runs both ops on a CPU, and prints what was looked for of the two packages. Torch comes first: where cuda-bindings is
#: installed it takes the driver's from there, but not the compiler's.
PROGRAM = """
import sys
import torch
assert "cuda.bindings.nvrtc" not in sys.modules
class Watch:
    seen = set()
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("cupy", "cuda"):
            self.seen.add(name)
sys.meta_path.insert(0, Watch())
from quant.kernels.ops import quantize_rows, scaled_mm
codes, scale = quantize_rows(torch.randn(33, 64), torch.int8)
scaled_mm(codes, scale, codes, scale, out_dtype=torch.bfloat16)
print(sorted(Watch.seen))
"""


def test_a_cpu_imports_neither_cupy_nor_cuda() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"
