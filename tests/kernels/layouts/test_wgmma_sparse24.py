"""The threads of `wgmma.sp` hold what the words of the format say, one group at a time, and it comes back exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from quant.kernels.layouts import wgmma_sparse24
from quant.kernels.layouts.sparse24 import compress
from quant.kernels.layouts.wgmma_sparse24 import pack, unpack
from tests.kernels.layouts.sparse_lanes import DTYPES, Places, any_parts, bits, dense, of, put
from tests.kernels.weight_cases import generator_of, weight_24

#: Rows and columns: whole, ragged, less than 64 rows or a step, an odd number of groups.
SIZES = [(256, 128), (64, 256), (17, 68), (257, 12), (5, 140)]


def groups_by_thread(meta: torch.Tensor, itemsize: int) -> Places:
    """Where an `m64nNk64` of 8 bits or an `m64nNk32` of 16 finds each group's two places."""
    steps, blocks, threads, instructions = meta.shape
    assert (threads, instructions) == (128, 2)
    words = (meta.long() & 0xFFFFFFFF).tolist()
    groups: Places = {}
    for step in range(steps):
        for block in range(blocks):
            for thread in range(threads):
                warp, lane = divmod(thread, 32)
                g, t = divmod(lane, 4)
                for i in range(instructions):
                    word = words[step][block][thread][i]
                    if itemsize == 1:
                        row = 64 * block + 16 * warp + g + 8 * (lane & 1)
                        first = (128 * step + 32 * (2 * i + (lane >> 1 & 1))) // 4
                        for chunk in range(8):
                            put(groups, row, first + chunk, word >> 4 * chunk & 15)
                    elif t >= 2:  # selector 0 reads the lanes with t = 0 and 1
                        assert word == words[step][block][thread - 2][i]
                    else:
                        row = 64 * block + 16 * warp + g
                        first = (64 * step + 16 * (2 * i + (lane & 1))) // 4
                        for chunk in range(4):
                            put(groups, row, first + chunk, word >> 4 * chunk & 15)
                            put(groups, row + 8, first + chunk, word >> 16 + 4 * chunk & 15)
    return groups


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_threads_hold_the_weight(size: tuple[int, int], dtype: torch.dtype) -> None:
    n, k = size
    weight = weight_24(n, k, dtype, generator_of(n, k))
    values, meta = pack(*compress(weight))
    itemsize = values.itemsize
    columns = 128 // itemsize
    steps, rows = -(-k // columns), -(-n // 256) * 256
    assert (meta.shape, meta.dtype) == ((steps, rows // 64, 128, 2), torch.int32)
    assert values.dtype == dtype
    width = values.shape[1]
    assert len(values) == n and width * itemsize % 16 == 0 and 0 <= width - k // 2 < 16 // itemsize
    groups = groups_by_thread(meta, itemsize)
    assert groups.keys() == {(row, group) for row in range(rows) for group in range(steps * columns // 4)}
    assert all(groups[row, group] == 4 for row, group in groups if row >= n or group >= k // 4)
    # What is not in memory a tensor map fills with zeros.
    kept = {(row, column): 0 for row in range(rows) for column in range(steps * columns // 2)}
    kept |= {
        (row, column): number for row, line in enumerate(bits(values).tolist()) for column, number in enumerate(line)
    }
    assert dense(kept, groups) == of(weight)


@pytest.mark.parametrize("dtype", DTYPES)
@given(st.integers(0, 70), st.integers(0, 40), st.integers(0, 99))
@example(256, 31, 0)  # fits, but for the last half byte of metadata
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
def test_any_strides_and_offset(dtype: torch.dtype) -> None:
    values, meta = any_parts(40, 136, dtype, 1)
    expected = pack(values, meta)
    wide, other = torch.zeros(40, 80, dtype=dtype)[:, 3:71], torch.zeros(17, 43, dtype=torch.uint8).T[2:42]
    shifted = [torch.cat((x.view(-1)[:1], x.reshape(-1)))[1:].view_as(x) for x in (values, meta)]
    for found in (pack(wide.copy_(values), other.copy_(meta)), pack(*shifted)):
        assert all(torch.equal(x.view(torch.uint8), y.view(torch.uint8)) for x, y in zip(found, expected, strict=True))
    strided = [torch.empty(*x.shape, 2, dtype=x.dtype)[..., 0].copy_(x) for x in expected]
    shifted = [torch.cat((x.view(-1)[:1], x.view(-1)))[1:].view_as(x) for x in expected]
    for kept, places in (strided, shifted):
        back = unpack(kept, places, 40, 136)
        assert torch.equal(bits(back[0]), bits(values)) and torch.equal(back[1], meta)


@pytest.mark.parametrize("dtype", DTYPES)
def test_values_that_fit_are_not_copied(dtype: torch.dtype) -> None:
    values, meta = any_parts(9, 64, dtype, 2)
    packed = pack(values, meta)
    assert packed[0].data_ptr() == values.data_ptr()
    assert unpack(*packed, 9, 64)[0].data_ptr() == values.data_ptr()


def test_what_compress_does_not_make_is_refused() -> None:
    with pytest.raises(ValueError, match=r"wgmma_sparse24: values are \[N, K/2\] with elements of one or two bytes"):
        pack(torch.zeros(2, 4), torch.zeros(2, 1, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("values", "meta", "n", "k"),
    [
        ((40, 48), (1, 4, 128, 2), 40, 68),
        ((40, 34), (1, 4, 128, 2), 40, 68),
        ((41, 48), (1, 4, 128, 2), 40, 68),
        ((40, 48), (2, 4, 128, 2), 40, 68),
        ((40, 48), (1, 1, 128, 2), 40, 68),
        ((40, 48), (1, 4, 128, 2), 40, 70),
    ],
)
def test_parts_of_another_shape_are_refused(values: tuple[int, ...], meta: tuple[int, ...], n: int, k: int) -> None:
    parts = torch.zeros(values, dtype=torch.int8), torch.zeros(meta, dtype=torch.int32)
    if (values, meta, n, k) == ((40, 48), (1, 4, 128, 2), 40, 68):
        assert unpack(*parts, n, k)[0].shape == (40, 34)
        parts = parts[0].float(), parts[1]
    with pytest.raises(ValueError, match=rf"wgmma_sparse24: a weight \[{n}, {k}\] has values of one or two bytes"):
        unpack(*parts, n, k)


def test_its_name_is_its_module() -> None:
    assert wgmma_sparse24.__name__.endswith(f".{wgmma_sparse24.NAME}")
