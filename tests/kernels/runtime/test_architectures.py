"""Architectures are found by name and by capability, and what there is no kernel for is refused in words."""

import pytest

from quant.kernels.runtime.architectures import ARCHITECTURES, Architecture, architecture, of_capability
from quant.kernels.runtime.errors import KernelError

LISTED = "the kernels are written for sm_80, sm_86, sm_89, sm_90a"


@pytest.mark.parametrize(
    ("capability", "name", "macro"),
    [((8, 0), "sm_80", 800), ((8, 6), "sm_86", 860), ((8, 9), "sm_89", 890), ((9, 0), "sm_90a", 900)],
)
def test_an_architecture_by_its_capability(capability: tuple[int, int], name: str, macro: int) -> None:
    found = of_capability(capability)
    assert (found.name, found.macro) == (name, macro)
    assert architecture(name) is found


@pytest.mark.parametrize("capability", [(7, 5), (8, 7), (10, 0), (12, 0)])
def test_a_device_that_no_kernel_is_written_for(capability: tuple[int, int]) -> None:
    with pytest.raises(KernelError) as caught:
        of_capability(capability)
    assert str(caught.value) == f"sm_{capability[0]}{capability[1]} is not supported; {LISTED}"


def test_a_name_there_is_not() -> None:
    with pytest.raises(KernelError) as caught:
        architecture("sm_90")
    assert str(caught.value) == f"unknown architecture 'sm_90'; {LISTED}"


@pytest.mark.parametrize("each", ARCHITECTURES.values(), ids=lambda each: each.name)
def test_a_block_leaves_the_kibibyte_that_the_system_keeps(each: Architecture) -> None:
    assert each.shared_bytes_per_sm - each.shared_bytes_per_block == 1024
    assert each.registers_per_sm == 65536
    assert each.max_threads_per_sm % 32 == 0
