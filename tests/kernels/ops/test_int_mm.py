"""The product of INT8 codes: exact sums, rounded once, whichever of torch's matmuls makes them."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels.ops import int_mm
from quant.kernels.reference import accumulate

#: More than one, one, and a little more than one and two stretches.
DEPTHS = st.one_of(st.integers(0, 40), st.sampled_from([1023, 1024, 1025, 2048, 2100]))


@given(st.integers(0, 5), DEPTHS, st.integers(1, 5), st.sampled_from([128, 7, 1]), st.integers(0, 2**32))
def test_floats_make_the_references_sums(m: int, k: int, n: int, largest: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randint(-largest, largest, (rows, k), dtype=torch.int8, generator=generator) for rows in (m, n))
    assert torch.equal(int_mm.by_floats(a, b), accumulate(a, b))


@pytest.mark.parametrize("k", [1024, 1025, 3000, 2**17])
@pytest.mark.parametrize("codes", [(-128, -128), (127, 127), (127, -128)])
def test_no_sum_of_the_largest_codes_is_rounded_before_its_end(k: int, codes: tuple[int, int]) -> None:
    a, b = (torch.full((1, k), code, dtype=torch.int8) for code in codes)
    a[0, -1], b[0, -1] = 1, 1
    whole = (k - 1) * codes[0] * codes[1] + 1
    assert abs(whole) < 2**31
    assert int_mm.by_floats(a, b).item() == torch.tensor(whole, dtype=torch.int64).float().item()


def test_columns_of_a_larger_tensor() -> None:
    a, b = (torch.randint(-127, 128, (rows, 64), dtype=torch.int8)[:, 16:48] for rows in (9, 5))
    assert torch.equal(int_mm.by_floats(a, b), accumulate(a, b))


@pytest.mark.parametrize("fast", [True, False])
def test_a_cpu_multiplies_codes_by_what_is_fast_on_it(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int_mm, "has_fast_int8", lambda: fast)
    a, b = (torch.randint(-127, 128, (rows, 2000), dtype=torch.int8) for rows in (33, 16))
    with (
        patch.object(int_mm, "by_floats", wraps=int_mm.by_floats) as floats,
        patch.object(torch, "_int_mm", wraps=torch._int_mm) as int8,
    ):
        assert torch.equal(int_mm.product(a, b), accumulate(a, b))
    assert (floats.call_count, int8.call_count) == ((0, 1) if fast else (1, 0))
