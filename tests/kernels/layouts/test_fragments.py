"""Rows come to lanes as a permutation of all dimensions says, in stretches of any size, and come back."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quant.kernels.layouts import fragments
from quant.kernels.layouts.fragments import blocks_of, chunks, from_lanes, padded, slabs_of, to_lanes

#: R, P and T of a layout, with the dtype that makes 16 bytes, or twice or four times as many, of them.
PARTS = [
    (2, 2, 4, torch.int32),
    (2, 4, 4, torch.int32),
    (2, 1, 2, torch.int32),
    (2, 1, 4, torch.int16),
    (2, 2, 2, torch.int16),
    (2, 1, 2, torch.int64),
    (1, 4, 4, torch.int32),
]


def every_bit(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    size = torch.Size(shape).numel() * torch.empty(0, dtype=dtype).itemsize
    generator = torch.Generator().manual_seed(size)
    return torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator).view(dtype).view(shape)


@pytest.mark.parametrize(("r", "p", "t", "dtype"), PARTS)
@given(st.integers(0, 3), st.integers(0, 3))
def test_it_is_a_permutation_and_its_inverse(
    r: int, p: int, t: int, dtype: torch.dtype, blocks: int, slabs: int
) -> None:
    rows = every_bit((blocks, r, 8, slabs, p, t), dtype)
    lanes = to_lanes(rows)
    assert torch.equal(lanes, rows.permute(3, 0, 2, 5, 4, 1))
    assert lanes.is_contiguous()
    assert torch.equal(from_lanes(lanes), rows)


@given(st.integers(1, 2000), st.integers(1, 5))
def test_stretches_change_nothing(chunk: int, blocks: int) -> None:
    rows = every_bit((blocks, 2, 8, 3, 2, 4), torch.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fragments, "CHUNK", chunk)
        lanes = to_lanes(rows)
        assert torch.equal(from_lanes(lanes), rows)
    assert torch.equal(lanes, rows.permute(3, 0, 2, 5, 4, 1))


@given(st.integers(0, 50), st.integers(0, 2**20))
def test_stretches_cover_every_block_once(blocks: int, block_bytes: int) -> None:
    for device in ("cpu", "meta"):
        stretches = list(chunks(blocks, block_bytes, torch.device(device)))
        assert [block for here in stretches for block in range(here.start, here.stop)] == list(range(blocks))
        assert device == "cpu" or len(stretches) <= 1


@given(st.integers(0, 3), st.integers(0, 5), st.integers(0, 2), st.integers(0, 3), st.integers(0, 17))
def test_padding_keeps_what_is_there(n: int, k: int, below: int, behind: int, offset: int) -> None:
    x = every_bit((offset + n * k,), torch.uint8)[offset:].view(n, k)
    found = padded(x, n + below, k + behind, 7)
    assert torch.equal(found[:n, :k], x)
    assert (found[n:] == 7).all() and (found[:, k:] == 7).all()
    assert found.is_contiguous()
    assert found.storage_offset() % 16 == 0


def test_what_fits_is_not_copied() -> None:
    x = torch.zeros(16, 8, dtype=torch.int32)
    assert padded(x, 16, 8, 1) is x


@given(st.integers(0, 200))
def test_a_last_block_and_slab_may_be_ragged(size: int) -> None:
    assert slabs_of(size) == len({column // 64 for column in range(size)})
    assert blocks_of(size) == len({row // 16 for row in range(size)})
