"""The lanes hold the codes that the words of the two orders say, one nibble at a time, and they come back exactly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from quant.kernels.layouts import fragments, nibbles
from quant.kernels.layouts.int4_fragments import NAME_8, NAME_16, NAMES, pack, pack_groups, unpack, unpack_groups
from tests.kernels.weight_cases import FLOATS, generator_of, nibble_codes

Codes = dict[tuple[int, int], int]
both = pytest.mark.parametrize("layout", NAMES)
#: Rows and columns: whole, ragged, less than a block or a slab.
SIZES = [(16, 64), (48, 192), (17, 65), (5, 1), (33, 127), (1, 72), (20, 68)]


def codes_by_lane(words: torch.Tensor, layout: str) -> Codes:
    """Row and column of each code, as a kernel takes words apart into registers of an instruction's left operand."""
    _, _, lanes, count = words.shape
    assert (lanes, count) == (32, 4)
    found: Codes = {}
    for slab, by_block in enumerate((words.long() & 0xFFFFFFFF).tolist()):
        for block, by_lane in enumerate(by_block):
            for lane, of_lane in enumerate(by_lane):
                g, t = divmod(lane, 4)
                for r in range(4):
                    row = 16 * block + g + 8 * (r & 1)
                    if layout == NAME_16:
                        for i in range(4):
                            for b in range(2):
                                nibble = of_lane[i] >> 4 * (r + 4 * b) & 15
                                column = 64 * slab + 16 * i + 2 * t + b + 8 * (r >> 1)
                                assert (row, column) not in found
                                found[row, column] = nibble - 8
                    else:
                        for step in range(2):
                            for b in range(4):
                                word = of_lane[2 * step + (r >> 1)]
                                nibble = word >> 4 * (2 * b + (r & 1)) & 15
                                column = 64 * slab + 32 * step + 4 * t + b + 16 * (r >> 1)
                                assert (row, column) not in found
                                found[row, column] = nibble - 16 if nibble & 8 else nibble
    return found


@both
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_lanes_hold_the_codes(size: tuple[int, int], layout: str) -> None:
    n, k = size
    codes = nibble_codes(n, k, generator_of(n, k))
    words = pack(nibbles.pack(codes), k, layout)
    slabs, blocks = -(-k // 64), -(-n // 16)
    assert (words.shape, words.dtype) == ((slabs, blocks, 32, 4), torch.int32)
    expected = {(row, column): 0 for row in range(16 * blocks) for column in range(64 * slabs)}
    expected |= {(row, column): int(codes[row, column]) for row in range(n) for column in range(k)}
    assert codes_by_lane(words, layout) == expected


@both
@given(st.integers(0, 40), st.integers(0, 150), st.integers(0, 99))
@example(16, 57, 0)  # fits, but for the bits behind the last column
def test_they_come_back(layout: str, n: int, k: int, seed: int) -> None:
    packed = nibbles.pack(nibble_codes(n, k, generator_of(n, k, seed)))
    before = packed.clone()
    back = unpack(pack(packed, k, layout), n, k, layout)
    assert torch.equal(packed, before)
    assert back.dtype == torch.int32 and back.is_contiguous()
    assert torch.equal(back, packed)


@both
@given(st.integers(1, 7), st.integers(0, 2))
def test_bits_behind_the_last_column_are_ignored_and_come_back_as_zeros(layout: str, behind: int, words: int) -> None:
    k = 8 * words + behind
    packed = nibbles.pack(nibble_codes(3, k, generator_of(k)))
    dirty = packed.clone()
    dirty[:, -1] |= -1 << 4 * behind
    assert torch.equal(pack(dirty, k, layout), pack(packed, k, layout))
    assert torch.equal(unpack(pack(dirty, k, layout), 3, k, layout), packed)


@both
def test_any_strides_offset_and_stretch(layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = nibbles.pack(nibble_codes(48, 192, generator_of(3)))
    before, expected = packed.clone(), pack(packed, 192, layout)
    assert torch.equal(packed, before)
    assert torch.equal(pack(packed.T.contiguous().T, 192, layout), expected)
    shifted = torch.cat((packed.view(-1)[:1], packed.view(-1)))[1:].view_as(packed)
    assert torch.equal(pack(shifted, 192, layout), expected)
    strided = torch.empty(*expected.shape, 2, dtype=torch.int32)[..., 0].copy_(expected)
    assert torch.equal(unpack(strided, 48, 192, layout), packed)
    monkeypatch.setattr(fragments, "CHUNK", 1)
    assert torch.equal(pack(packed, 192, layout), expected)
    assert torch.equal(unpack(expected, 48, 192, layout), packed)
    assert torch.equal(pack(packed, 192, layout), expected)  # and nothing that was given has changed


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int8])
@given(st.integers(0, 40), st.integers(0, 5))
def test_scales_lie_by_block(dtype: torch.dtype, n: int, groups: int) -> None:
    x = torch.arange(n * groups).view(n, groups).to(dtype)
    packed = pack_groups(x)
    assert (packed.dtype, packed.shape) == (dtype, (groups, 16 * -(-n // 16)))
    for place in range(packed.shape[1]):
        block, within = divmod(place, 16)
        row = 16 * block + within // 2 + 8 * (within % 2)  # rows g and g + 8 of a lane are neighbours
        assert packed[:, place].tolist() == (x[row].tolist() if row < n else [0] * groups)
    back = unpack_groups(packed, n)
    assert back.is_contiguous() and back.dtype == dtype
    assert torch.equal(back, x)


@both
@pytest.mark.parametrize("packed", [torch.zeros(2, 1).int(), torch.zeros(2, 2), torch.zeros(2).int()])
def test_another_width_is_refused(packed: torch.Tensor, layout: str) -> None:
    with pytest.raises(ValueError, match=rf"{layout}: 9 columns are int32 \[N, 2\], got"):
        pack(packed, 9, layout)


@both
@pytest.mark.parametrize(("shape", "n", "k"), [((1, 2, 32, 4), 16, 64), ((1, 2, 32, 4), 32, 65), ((2, 32, 4), 32, 64)])
def test_words_of_another_shape_are_refused(shape: tuple[int, ...], n: int, k: int, layout: str) -> None:
    with pytest.raises(ValueError, match=rf"{layout}: codes \[{n}, {k}\] are int32 \[{-(-k // 64)}, {-(-n // 16)}, 32"):
        unpack(torch.zeros(shape, dtype=torch.int32), n, k, layout)
    with pytest.raises(ValueError, match=f"{layout}: .* got torch.int64"):
        unpack(torch.zeros(-(-k // 64), -(-n // 16), 32, 4, dtype=torch.int64), n, k, layout)


def test_groups_of_other_rows_are_refused() -> None:
    with pytest.raises(ValueError, match=r"groups of 17 rows are \[G, 32\], got \[3, 16\]"):
        unpack_groups(torch.zeros(3, 16), 17)


def test_there_are_two_orders() -> None:
    assert NAMES == (NAME_16, NAME_8) == ("int4_fragments_16", "int4_fragments_8")
    says = "no layout is called 'nibbles'; there are int4_fragments_16, int4_fragments_8"
    with pytest.raises(ValueError, match=says):
        pack(torch.zeros(2, 1, dtype=torch.int32), 8, "nibbles")
    with pytest.raises(ValueError, match=says):
        unpack(torch.zeros(1, 1, 32, 4, dtype=torch.int32), 2, 8, "nibbles")
