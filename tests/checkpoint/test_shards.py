"""Which tensors go into which file of a checkpoint."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.checkpoint.shards import FileTensor, plan_shards


@given(sizes=st.lists(st.integers(0, 50), max_size=20), max_bytes=st.integers(1, 100))
def test_no_file_is_larger_than_asked_unless_one_tensor_is(sizes: list[int], max_bytes: int) -> None:
    plans = {f"t{i}": FileTensor(torch.int8, (size,)) for i, size in enumerate(sizes)}
    shards = plan_shards(plans, max_bytes)
    assert [name for names in shards for name in names] == list(plans)
    totals = [sum(plans[name].nbytes for name in names) for names in shards]
    for names, total in zip(shards, totals, strict=True):
        assert total <= max_bytes or len([name for name in names if plans[name].nbytes]) == 1
    for full, names in zip(totals[:-1], shards[1:], strict=True):
        assert full + plans[names[0]].nbytes > max_bytes


@pytest.mark.parametrize(("dtype", "shape", "nbytes"), [(torch.float64, (), 8), (torch.bfloat16, (3, 5), 30)])
def test_the_size_of_a_parts(dtype: torch.dtype, shape: tuple[int, ...], nbytes: int) -> None:
    assert FileTensor(dtype, shape).nbytes == nbytes
