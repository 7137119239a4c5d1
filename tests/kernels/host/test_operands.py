"""What a kernel reads by base and strides is what torch has there, for any view of a tensor."""

from __future__ import annotations

import ctypes
from itertools import product

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from quant.kernels.arguments import Epilogue
from quant.kernels.host.operands import VECTOR_BYTES, Operands, aligned
from quant.kernels.host.structures import DTYPES, HopperArguments, MmaArguments, Rows

FLOATS = [torch.bfloat16, torch.float16, torch.float32]
CODES = [torch.int8, torch.float8_e4m3fn]


def patterns(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Every bit pattern in turn, so that elements near each other differ."""
    count = torch.arange(shape.numel(), dtype=torch.int32)
    return (count if dtype.itemsize == 4 else count.to(torch.int16)).view(dtype).view(shape)


@st.composite
def views(draw: st.DrawFn) -> tuple[torch.Tensor, list[int]]:
    """A tensor that broadcasts to a shape [..., N]: sliced, permuted, with sizes of 1 and dimensions left out."""
    lead = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    shape = [*lead, draw(st.sampled_from([1, 2, 8, 13, 24]))]
    own = [draw(st.sampled_from([size, size, 1])) for size in shape][draw(st.integers(0, len(lead))) :]
    order = draw(st.permutations(range(len(own)))) if draw(st.booleans()) else list(range(len(own)))
    starts = [draw(st.sampled_from([0, 0, 1, 8])) for _ in own]
    steps = [draw(st.sampled_from([1, 1, 2])) for _ in own]
    ends = [draw(st.sampled_from([0, 0, 3, 8])) for _ in own]
    laid = [starts[d] + own[d] * steps[d] + ends[d] for d in order]
    whole = patterns(torch.Size(laid), draw(st.sampled_from(FLOATS))).permute([order.index(d) for d in range(len(own))])
    x = whole[tuple(slice(begin, begin + size * by, by) for begin, size, by in zip(starts, own, steps, strict=True))]
    return (x.expand(shape) if draw(st.booleans()) else x), shape


def row_offset(rows: Rows, m: int) -> int:
    """As rows.cuh has it."""
    rest, inner = divmod(m, rows.inner)
    outer, middle = divmod(rest, rows.middle)
    return int(outer * rows.outer_stride + middle * rows.middle_stride + inner * rows.inner_stride)


def addresses(rows: Rows, x: torch.Tensor, shape: list[int]) -> list[int]:
    """Where a kernel finds each row of `x`, broadcast to `shape`."""
    return [rows.base + row_offset(rows, m) * x.itemsize for m in range(torch.Size(shape[:-1]).numel())]


@given(views())
def test_a_kernel_reads_the_rows_of_any_view(drawn: tuple[torch.Tensor, list[int]]) -> None:
    x, shape = drawn
    operands = Operands()
    rows = operands.rows(x, shape)
    assert rows.dtype == DTYPES[x.dtype]
    expected = x.expand(shape).clone(memory_format=torch.contiguous_format).view(-1, shape[-1])
    for address, row in zip(addresses(rows, x, shape), expected, strict=True):
        assert ctypes.string_at(address, row.nbytes) == bytes(row.view(torch.uint8).tolist())
    assert [each.data_ptr() for each in operands.held] == [rows.base]


@given(st.lists(st.none() | views(), max_size=3))
def test_rows_are_aligned_where_every_one_of_all_operands_so_far_is(
    drawn: list[tuple[torch.Tensor, list[int]] | None],
) -> None:
    operands, found = Operands(), list[int]()
    assert operands.aligned
    for each in drawn:
        if each is None:
            operands.rows(None, ())
        else:
            found += addresses(operands.rows(*each), *each)
        assert operands.aligned == all(address % VECTOR_BYTES == 0 for address in found)


def test_an_address_alone_says_nothing_of_rows() -> None:
    operands = Operands()
    operands.address(torch.zeros(9, dtype=torch.int8)[1:])
    assert operands.aligned


@given(views())
def test_only_a_last_dimension_out_of_order_is_copied(drawn: tuple[torch.Tensor, list[int]]) -> None:
    x, shape = drawn
    in_place = x.shape[-1] == shape[-1] and (x.stride(-1) == 1 or shape[-1] == 1)
    assert (Operands().rows(x, shape).base == x.data_ptr()) == in_place


def test_a_gate_for_each_sample_is_not_expanded() -> None:
    gate = torch.randn(2, 1, 1, 24)
    operands = Operands()
    rows = operands.rows(gate, (2, 3, 5, 24))
    assert (rows.outer_stride, rows.middle_stride, rows.inner_stride) == (24, 0, 0)
    assert (rows.middle, rows.inner, operands.aligned) == (3, 5, True)
    assert operands.held == [gate]


def test_an_absent_operand_has_no_address() -> None:
    operands = Operands()
    rows = operands.rows(None, ())
    assert (rows.base, operands.address(None), operands.held) == (None, None, [])


@pytest.mark.parametrize("kind", [MmaArguments, HopperArguments])
@pytest.mark.parametrize("blocks", [0, 1, 2])
@pytest.mark.parametrize("transposed", [False, True])
def test_scales_by_block_lie_in_the_order_of_their_rows(
    transposed: bool, blocks: int, kind: type[MmaArguments] | type[HopperArguments]
) -> None:
    scales = [torch.rand(5, 3), torch.rand(2, 3)]
    a_scale, b_scale = (x.T.contiguous().T if transposed else x for x in scales)
    operands, arguments = Operands(), kind()
    operands.block_scales(arguments, Epilogue(a_scale, b_scale), blocks)
    found = (arguments.a_block_scales, arguments.b_block_scales)
    assert [address is not None for address in found] == [blocks == 2, blocks > 0]
    for address, scale in zip(found, (a_scale, b_scale), strict=True):
        if address is not None:
            read = (ctypes.c_float * scale.numel()).from_address(address)
            assert list(read) == scale.flatten().tolist()
    assert {x.data_ptr() for x in operands.held} == {address for address in found if address is not None}


@pytest.mark.parametrize("dtype", CODES)
@given(st.integers(1, 4), st.integers(1, 40), st.sampled_from([0, 1, 16]), st.sampled_from([0, 7, 16]), st.booleans())
@example(3, 32, 0, 0, False)
def test_codes_are_aligned_and_padded_with_zeros(
    dtype: torch.dtype, rows: int, k: int, start: int, behind: int, transposed: bool
) -> None:
    bits = torch.randint(0, 256, (rows, start + k + behind), dtype=torch.uint8).view(dtype)
    laid = bits.mT.contiguous().mT if transposed else bits
    codes = laid[:, start : start + k]
    found = aligned(codes)
    assert found.dtype == dtype
    assert found.stride(1) == 1 or found.shape[1] == 1
    assert all((found.data_ptr() + row * found.stride(0)) % VECTOR_BYTES == 0 for row in range(rows))
    assert found.shape == (rows, -(-k // VECTOR_BYTES) * VECTOR_BYTES)
    assert torch.equal(found.view(torch.uint8)[:, :k], codes.contiguous().view(torch.uint8))
    assert not found.view(torch.uint8)[:, k:].any()


@pytest.mark.parametrize(("width", "start", "k"), list(product([64, 80, 72], [0, 16, 8], [32, 40])))
def test_codes_that_lie_right_are_not_copied(width: int, start: int, k: int) -> None:
    codes = torch.zeros(3, width, dtype=torch.int8)[:, start : start + k]
    fits = width % VECTOR_BYTES == start % VECTOR_BYTES == k % VECTOR_BYTES == 0
    assert (aligned(codes) is codes) == fits
