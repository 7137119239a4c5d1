"""The gate: every kernel of the catalogue compiles on every architecture it names, to the code it is meant to be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quant.kernels.matmuls.table import KERNELS
from quant.kernels.runtime.launch import Build
from quant.kernels.runtime.sources import shipped
from tests.kernels.sass import Kernel, violations


def _cases() -> Iterator[object]:
    for kernel in KERNELS:
        for arch in kernel.architectures:
            for build in kernel.builds(arch):
                macros = "-".join(f"{name}={value}" for name, value in build.defines)
                yield pytest.param(kernel, build, arch, id=f"{kernel.name}-{arch}-{macros}")


@pytest.mark.parametrize(("kernel", "build", "arch"), list(_cases()))
def test_the_machine_code_is_what_it_is_meant_to_be(kernel: Kernel, build: Build, arch: str) -> None:
    assert violations(kernel, build, arch) == []


def test_every_source_is_in_the_catalogue() -> None:
    assert sorted(f"{kernel.name}.cu" for kernel in KERNELS) == [name for name in shipped() if name.endswith(".cu")]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_an_entry_is_complete(kernel: Kernel) -> None:
    for arch in kernel.architectures:
        assert {build.kernel for build in kernel.builds(arch)} == {kernel.name}
