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


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda each: f"{each.kernel}: {each.mutation.why}")
def test_a_mistake_is_found(mistake: Mistake) -> None:
    assert mistake.check(None) is None
    assert found(mistake) in mistake.shown


def test_every_kernel_has_its_mistakes() -> None:
    made = Counter(mistake.kernel for mistake in MISTAKES)
    assert set(made) == {kernel.name for kernel in KERNELS}
    assert min(made.values()) >= 8
