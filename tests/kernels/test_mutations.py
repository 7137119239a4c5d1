"""Every mistake made in a kernel is found; the same input finds nothing in the kernel as it is."""

from __future__ import annotations

from collections import Counter

import pytest

from quant.kernels.matmuls.table import KERNELS
from tests.kernels.gemm_mistakes import GEMM_MISTAKES
from tests.kernels.hopper_mistakes import HOPPER_MISTAKES
from tests.kernels.mistakes import Mistake, found
from tests.kernels.packed_mistakes import PACKED_MISTAKES
from tests.kernels.row_mistakes import ROW_MISTAKES

MISTAKES = (*GEMM_MISTAKES, *HOPPER_MISTAKES, *ROW_MISTAKES, *PACKED_MISTAKES)


#: Each input once, with the first mistake that it shows.
INPUTS = {mistake.check: mistake for mistake in reversed(MISTAKES)}.values()


def _name(mistake: Mistake) -> str:
    return f"{mistake.kernel}: {mistake.mutation.why}"


@pytest.mark.parametrize("mistake", INPUTS, ids=_name)
def test_nothing_is_found_in_a_kernel_without_the_mistake(mistake: Mistake) -> None:
    assert mistake.check(None) is None


@pytest.mark.parametrize("mistake", MISTAKES, ids=_name)
def test_a_mistake_is_found(mistake: Mistake) -> None:
    assert found(mistake) in mistake.shown


def test_every_kernel_has_its_mistakes() -> None:
    made = Counter(mistake.kernel for mistake in MISTAKES)
    assert set(made) == {kernel.name for kernel in KERNELS}
    assert min(made.values()) >= 8
