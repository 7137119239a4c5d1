"""The gate: every kernel of the catalogue compiles on every architecture it names, to the code it is meant to be."""

from __future__ import annotations

import pytest

from quant.kernels.matmuls.table import KERNELS
from quant.kernels.runtime.sources import shipped
from tests.kernels.sass import Kernel, disassemble, violations

CASES = [pytest.param(kernel, arch, id=f"{kernel}-{arch}") for kernel in KERNELS for arch in kernel.architectures]


@pytest.mark.parametrize(("kernel", "arch"), CASES)
def test_the_machine_code_of_every_build_is_what_it_is_meant_to_be(kernel: Kernel, arch: str) -> None:
    builds = kernel.builds(arch)
    codes = disassemble(builds, arch)
    found = {build: violations(kernel, build, arch, code) for build, code in zip(builds, codes, strict=True)}
    assert {build: wrong for build, wrong in found.items() if wrong} == {}


def test_every_source_is_in_the_catalogue() -> None:
    assert sorted(f"{kernel.name}.cu" for kernel in KERNELS) == [name for name in shipped() if name.endswith(".cu")]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_an_entry_is_complete(kernel: Kernel) -> None:
    for arch in kernel.architectures:
        assert {build.kernel for build in kernel.builds(arch)} == {kernel.name}
