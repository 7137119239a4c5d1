"""The lanes of `mma.sp` hold what the words of the format say, one element at a time, and it comes back exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from quant.kernels.layouts import fragments, mma_sparse24
from quant.kernels.layouts.mma_sparse24 import pack, unpack
from quant.kernels.layouts.sparse24 import compress
from tests.kernels.layouts.sparse_lanes import DTYPES, Places, any_parts, bits, dense, of, put
from tests.kernels.weight_cases import generator_of, weight_24

#: Rows and columns: whole, ragged, less than a block or a slab, an odd number of groups.
SIZES = [(16, 64), (48, 192), (17, 68), (5, 4), (40, 132), (1, 12), (33, 60)]


def kept_by_lane(values: torch.Tensor) -> Places:
    """Where an `m16n8k64` or two `m16n8k32` with `.sp` find each kept value."""
    slabs, blocks, lanes, elements = values.shape
    numbers = bits(values).tolist()
    kept: Places = {}
    for slab in range(slabs):
        for block in range(blocks):
            for lane in range(lanes):
                g, t = divmod(lane, 4)
                for element in range(elements):
                    if values.itemsize == 1:
                        r, b = divmod(element, 4)
                        column = 4 * t + b + 16 * (r >> 1)
                    else:
                        step, rest = divmod(element, 8)
                        r, b = divmod(rest, 2)
                        column = 16 * step + 2 * t + b + 8 * (r >> 1)
                    row = 16 * block + g + 8 * (r & 1)
                    put(kept, row, 32 * slab + column, numbers[slab][block][lane][element])
    return kept


def groups_by_lane(meta: torch.Tensor, itemsize: int) -> Places:
    """Where they find each group's two places."""
    slabs, blocks, lanes = meta.shape
    words = (meta.long() & 0xFFFFFFFF).tolist()
    groups: Places = {}
    for slab in range(slabs):
        for block in range(blocks):
            for lane in range(lanes):
                g, t = divmod(lane, 4)
                for chunk in range(8):
                    nibble = words[slab][block][lane] >> 4 * chunk & 15
                    if itemsize == 1:
                        row = g + 8 * (lane & 1)
                        group = 8 * (lane >> 1 & 1) + chunk
                    else:
                        step = t >> 1  # which of the two instructions reads this lane
                        row = g + 8 * (chunk // 4)
                        group = 4 * (2 * step + (lane & 1)) + chunk % 4
                    put(groups, 16 * block + row, 16 * slab + group, nibble)
    return groups


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_lanes_hold_the_weight(size: tuple[int, int], dtype: torch.dtype) -> None:
    n, k = size
    weight = weight_24(n, k, dtype, generator_of(n, k))
    values, meta = pack(*compress(weight))
    slabs, blocks = -(-k // 64), -(-n // 16)
    assert (values.shape, values.dtype) == ((slabs, blocks, 32, 16), dtype)
    assert (meta.shape, meta.dtype) == ((slabs, blocks, 32), torch.int32)
    kept, groups = kept_by_lane(values), groups_by_lane(meta, values.itemsize)
    every = {(row, column) for row in range(16 * blocks) for column in range(32 * slabs)}
    assert kept.keys() == every
    assert dense(kept, groups) == of(weight)
    assert all(
        groups[row, group] == 4 for row, group in groups if row >= n or group >= k // 4
    )  # columns 0 and 1, where there is no weight


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 99))
@example(16, 15, 0)  # fits, but for the last half byte of metadata
def test_it_comes_back(dtype: torch.dtype, n: int, groups: int, seed: int) -> None:
    values, meta = any_parts(n, 4 * groups, dtype, seed)
    before = meta.clone()
    back, places = unpack(*pack(values, meta), n, 4 * groups)
    assert torch.equal(meta, before)
    assert (back.dtype, back.shape, places.dtype) == (dtype, values.shape, torch.uint8)
    assert back.is_contiguous() and places.is_contiguous()
    assert torch.equal(bits(back), bits(values))
    assert torch.equal(places, meta)


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_strides_offset_and_stretch(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    values, meta = any_parts(40, 136, dtype, 1)
    expected = pack(values, meta)
    wide, other = torch.zeros(40, 80, dtype=dtype)[:, 3:71], torch.zeros(17, 43, dtype=torch.uint8).T[2:42]
    given_values, given_meta = wide.copy_(values), other.copy_(meta)
    shifted = [torch.cat((x.view(-1)[:1], x.reshape(-1)))[1:].view_as(x) for x in (values, meta)]
    for found in (pack(given_values, given_meta), pack(*shifted)):
        assert all(torch.equal(x.view(torch.uint8), y.view(torch.uint8)) for x, y in zip(found, expected, strict=True))
    monkeypatch.setattr(fragments, "CHUNK", 1)
    found = pack(values, meta)
    assert all(torch.equal(x.view(torch.uint8), y.view(torch.uint8)) for x, y in zip(found, expected, strict=True))
    strided = [torch.empty(*x.shape, 2, dtype=x.dtype)[..., 0].copy_(x) for x in expected]
    shifted = [torch.cat((x.view(-1)[:1], x.view(-1)))[1:].view_as(x) for x in expected]
    for kept, places in (strided, shifted):
        back = unpack(kept, places, 40, 136)
        assert torch.equal(bits(back[0]), bits(values)) and torch.equal(back[1], meta)


@pytest.mark.parametrize(
    ("values", "meta"),
    [
        (torch.zeros(2, 4), torch.zeros(2, 1, dtype=torch.uint8)),
        (torch.zeros(8).bfloat16(), torch.zeros(8, 1, dtype=torch.uint8)),
        (torch.zeros(2, 3).bfloat16(), torch.zeros(2, 1, dtype=torch.uint8)),
        (torch.zeros(2, 4).bfloat16(), torch.zeros(2, 1, dtype=torch.int8)),
        (torch.zeros(2, 4).bfloat16(), torch.zeros(2, 2, dtype=torch.uint8)),
        (torch.zeros(2, 4).bfloat16(), torch.zeros(3, 1, dtype=torch.uint8)),
    ],
)
def test_what_compress_does_not_make_is_refused(values: torch.Tensor, meta: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"mma_sparse24: values are \[N, K/2\] .* metadata uint8 \[N, ceil\(K/8\)\]"):
        pack(values, meta)


@pytest.mark.parametrize(
    ("values", "meta", "n", "k"),
    [
        ((2, 3, 32, 16), (2, 3, 32), 32, 128),
        ((2, 3, 32, 16), (2, 3, 32), 48, 64),
        ((2, 3, 32, 16), (2, 3, 32), 40, 70),
        ((2, 3, 32, 16), (2, 2, 32), 48, 128),
        ((2, 3, 16, 32), (2, 3, 32), 48, 128),
    ],
)
def test_parts_of_another_shape_are_refused(values: tuple[int, ...], meta: tuple[int, ...], n: int, k: int) -> None:
    parts = torch.zeros(values, dtype=torch.int8), torch.zeros(meta, dtype=torch.int32)
    with pytest.raises(ValueError, match=rf"mma_sparse24: a weight \[{n}, {k}\] has values of one or two bytes"):
        unpack(*parts, n, k)
    good = torch.zeros(2, 3, 32, 16, dtype=torch.int8), torch.zeros(2, 3, 32, dtype=torch.int32)
    assert unpack(*good, 40, 68)[0].shape == (40, 34)
    with pytest.raises(ValueError, match="mma_sparse24"):
        unpack(good[0].float(), good[1], 40, 68)
    with pytest.raises(ValueError, match="mma_sparse24"):
        unpack(good[0], good[1].float(), 40, 68)


def test_its_name_is_its_module() -> None:
    assert mma_sparse24.__name__.endswith(f".{mma_sparse24.NAME}")
