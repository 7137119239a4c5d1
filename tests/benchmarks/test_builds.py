"""What is compiled beforehand is what is launched, and it is compiled by processes that say what fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import builds, compiling, launches, ours, ours_weights, rows, shapes, smoke
from benchmarks.gpu.budget import Budget, Purse
from benchmarks.gpu.contestants import COMPILATIONS
from benchmarks.gpu.inputs import Inputs
from benchmarks.gpu.shapes import Rows, Shape
from quant.kernels import choosing, compiled
from quant.kernels.limits import Call
from quant.kernels.matmuls.table import KERNELS
from quant.kernels.runtime import cupy_launch
from quant.kernels.runtime.architectures import ARCHITECTURES
from quant.kernels.runtime.launch import Build, Launch

CPU = torch.device("cpu")
SMALL = [Shape("m", "many", 300, 48, 512, "gelu_tanh"), Shape("m", "few", 7, 41, 256)]


@pytest.fixture(params=ARCHITECTURES)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> builds.Device:
    """A CPU in the place of a GPU, whose launches are noted in `launched`; shapes and rows are small ones."""
    here = builds.Device(ARCHITECTURES[request.param], 10)

    def on_device(call: Call, device: torch.device) -> Call:
        return replace(call, device="cuda", capability=here.architecture.capability)

    monkeypatch.setattr(choosing, "on_device", on_device)
    monkeypatch.setattr(cupy_launch, "device_index", lambda device: 0)
    monkeypatch.setattr(cupy_launch, "device_architecture", lambda index: here.architecture)
    properties = SimpleNamespace(multi_processor_count=here.multiprocessors)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(shapes, "matmuls", lambda quick: SMALL)
    monkeypatch.setattr(shapes, "rows", lambda quick: [Rows(16, 512, False)])
    return here


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Build]]:
    """Tiles are remembered for each size, those of another architecture too."""
    found: list[Build] = []

    def note(launch: Launch, where: torch.device) -> None:
        found.append(launch.build)

    monkeypatch.setattr(cupy_launch, "run", note)
    compiled.forget_tiles()
    yield found
    compiled.forget_tiles()


def test_the_smoke_run_launches_what_was_compiled_for_it(device: builds.Device, launched: list[Build]) -> None:
    for case in smoke.cases(device.architecture.name):
        launches.run(case, CPU)
    assert set(builds.of_smoke(device)) == set(launched)
    assert len(builds.of_smoke(device)) == len(set(launched))


def test_the_benchmark_launches_what_was_compiled_for_it(device: builds.Device, launched: list[Build]) -> None:
    capability = device.architecture.capability
    for shape in SMALL:
        inputs = Inputs(shape, CPU)
        for each in (*ours.contestants(inputs, capability), *ours_weights.contestants(inputs, capability)):
            if each.refusal is None:
                each.prepare()()
    size = Rows(16, 512, False)
    budget, purse = Budget(0.0), Purse(0.0, COMPILATIONS)
    rows.measure(rows.make(size, CPU), size, lambda run: 0.0, budget, purse, capability)
    assert set(builds.of_bench(device, quick=True)) == set(launched)
    wanted = {kernel.name for kernel in KERNELS if device.architecture.name in kernel.architectures}
    assert {build.kernel for build in launched} == wanted


def test_of_the_real_shapes_there_are_not_too_many() -> None:
    """Some seconds of a few cores, of which the step has less than a minute."""
    device = builds.Device(ARCHITECTURES["sm_90a"], 132)
    every = {*builds.of_smoke(device), *builds.of_bench(device, quick=False)}
    assert len(every) < 250
    assert set(builds.of_bench(device, quick=True)) < every


def say(build: Build, arch: str) -> str | None:
    """In another process."""
    return f"{build.kernel} for {arch} in {os.getpid()}" if build.kernel != "fine" else None


def test_each_is_compiled_in_another_process_and_failures_are_said() -> None:
    given = [Build(name, ()) for name in ("a", "fine", "b")]
    failed = compiling.compile_all(given, "sm_80", 2, one=say)
    assert sorted(line.split(" in ")[0] for line in failed) == ["a for sm_80", "b for sm_80"]
    assert str(os.getpid()) not in " ".join(failed)
    assert compiling.compile_all([], "sm_80", 2) == []
    assert compiling.said(given, failed, 2).startswith("3 builds compiled in 2 processes; 2 failed, the first: ")
    assert compiling.said(given, [], 2) == "3 builds compiled in 2 processes"


def test_what_is_compiled_is_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANT_CACHE_DIR", str(tmp_path))
    build = builds.of_smoke(builds.Device(ARCHITECTURES["sm_80"], 10))[-1]
    assert compiling.compiled(build, "sm_80") is None
    (file,) = tmp_path.iterdir()
    assert file.name.startswith(f"{build.kernel}-sm_80-")
    assert str(compiling.compiled(Build("none", ()), "sm_80")).startswith("none: no CUDA source none.cu")


def test_the_command_compiles_what_both_steps_need(monkeypatch: pytest.MonkeyPatch, device: builds.Device) -> None:
    from click.testing import CliRunner

    from quant.kernels.runtime import availability

    asked: list[Build] = []

    def compile_all(given: list[Build], arch: str, workers: int) -> list[str]:
        assert arch == device.architecture.name
        asked.extend(given)
        return ["x: broken"] if workers == 3 else []

    monkeypatch.setattr(compiling, "compile_all", compile_all)
    monkeypatch.setattr(availability, "reason", lambda device: None)
    properties = SimpleNamespace(multi_processor_count=device.multiprocessors)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    ran = CliRunner().invoke(compiling.main, ["--workers", "2", "--quick"])
    assert ran.exit_code == 0
    assert set(asked) == {*builds.of_smoke(device), *builds.of_bench(device, quick=True)}
    assert len(asked) == len(set(asked))
    assert ran.stdout == f"{len(asked)} builds compiled in 2 processes\n"
    failed = CliRunner().invoke(compiling.main, ["--workers", "3"])
    assert failed.exit_code == 1
    assert "x: broken" in failed.stderr
