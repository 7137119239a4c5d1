"""An epilogue as a kernel has it: what is there, where it lies, and which macros say so."""

from __future__ import annotations

import ctypes
from itertools import product
from typing import NamedTuple

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from quant.kernels.arguments import Epilogue
from quant.kernels.host import structures
from quant.kernels.host.epilogue import BLOCKS_OF_B, BLOCKS_OF_BOTH, NO_BLOCKS, PARTS, PlannedEpilogue, defines, plan
from quant.kernels.host.operands import Operands
from quant.kernels.host.structures import ACTIVATIONS, DTYPES
from tests.kernels.host.test_operands import addresses
from tests.kernels.matmuls.test_mma_gemm_plan import OUTPUTS, pointers

FLOATS = [torch.float32, torch.bfloat16, torch.float16]
M = 6


class Case(NamedTuple):
    """An epilogue for out [6, n] with K = k, and the sizes of its blocks of scales: 0, 1 (of b) or 2 (of both)."""

    epilogue: Epilogue
    n: int
    k: int
    blocks: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    n, k = draw(st.sampled_from([1, 4, 8, 12, 40, 136, 200])), draw(st.sampled_from([1, 128, 129, 300, 1024]))
    numbers = iter(range(1, 1000))  # so that no operand can be taken for another

    def tensor(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
        start, behind = (draw(st.sampled_from([0, 0, 0, 1, 4, 8])) for _ in range(2))
        whole = torch.full((*shape[:-1], start + shape[-1] + behind), float(next(numbers)), dtype=dtype)
        return whole[..., start : start + shape[-1]]

    def optional(*shapes: tuple[int, ...]) -> torch.Tensor | None:
        shape = draw(st.none() | st.sampled_from(shapes))
        return None if shape is None else tensor(shape, draw(st.sampled_from(FLOATS)))

    in_blocks = (-(-n // 128), -(-k // 128))
    by_block = in_blocks != (1, 1) and draw(st.booleans())
    by_both = by_block and in_blocks[1] > 1 and draw(st.booleans())
    out_dtype = draw(st.sampled_from(OUTPUTS))
    gate = optional((M, n), (2, 1, n), (1, n))
    epilogue = Epilogue(
        a_scale=tensor((M, in_blocks[1]) if by_both else draw(st.sampled_from([(M, 1), (1, 1)]))),
        b_scale=tensor(in_blocks) if by_block else draw(st.sampled_from([tensor((1, n)).view(n, 1), tensor((1, 1))])),
        bias=optional((n,)),
        activation=draw(st.sampled_from(list(ACTIVATIONS))),
        residual=optional((M, n), (2, 3, n)),
        gate=gate if gate is None else gate.expand(2, 3, n) if gate.ndim == 3 else gate.expand(M, n),
        out_dtype=out_dtype,
        out_scale=tensor((1,)) if out_dtype.itemsize == 1 else None,
        fast_accumulate=draw(st.booleans()),
    )
    return Case(epilogue, n, k, by_block + by_both)


def planned(case: Case) -> tuple[PlannedEpilogue, Operands]:
    operands = Operands()
    return plan(operands, case.epilogue, case.n, case.k), operands


def operands_by_rows(case: Case) -> dict[str, torch.Tensor]:
    """Those that are read row by row, by their names in the structure."""
    e = case.epilogue
    named = {"bias": e.bias, "residual": e.residual, "gate": e.gate}
    by_row = e.b_scale.reshape(case.n) if case.blocks == 0 and e.b_scale.numel() > 1 else None
    return {name: x for name, x in {**named, "b_scale": by_row}.items() if x is not None}


def beginnings(x: torch.Tensor) -> list[int]:
    """The address of each row of x [..., N]."""
    return [x[place].data_ptr() for place in product(*map(range, x.shape[:-1]))]


@given(cases())
def test_parts_are_those_that_are_there(case: Case) -> None:
    found = dict(planned(case)[0].defines)["PARTS"]
    e = case.epilogue
    there = {
        "bias": e.bias is not None,
        "gate": e.gate is not None,
        "residual": e.residual is not None,
        "one_b_scale": e.b_scale.numel() == 1,
    }
    assert {name: bool(found & bit) for name, bit in PARTS.items()} == there
    assert found <= sum(PARTS.values())


@given(cases())
def test_which_scales_are_by_block(case: Case) -> None:
    found, _ = planned(case)
    assert found.blocks == (NO_BLOCKS, BLOCKS_OF_B, BLOCKS_OF_BOTH)[case.blocks]
    assert found.defines["BLOCK_SCALES"] == found.blocks
    assert (found.structure.a_scale is None) == (case.blocks == 2)
    assert (found.structure.b_scale.base is None) == (case.blocks > 0)


@given(cases())
@example(Case(Epilogue(torch.ones(M, 1), torch.ones(2)[1:].view(1, 1)), 8, 8, 0))
@example(Case(Epilogue(torch.ones(M, 1), torch.ones(9, 1)[1:]), 8, 8, 0))
def test_rows_are_aligned_where_all_of_all_operands_are(case: Case) -> None:
    rows = [address for x in operands_by_rows(case).values() for address in beginnings(x)]
    found, operands = planned(case)
    assert found.defines["ALIGNED"] == (case.n % 8 == 0 and all(address % 16 == 0 for address in rows))
    assert operands.aligned == all(address % 16 == 0 for address in rows)


@given(cases())
def test_a_kernel_finds_every_operand_where_it_lies(case: Case) -> None:
    found, operands = planned(case)
    e, structure = case.epilogue, found.structure
    there = operands_by_rows(case)
    for name in ("bias", "residual", "gate", "b_scale"):
        rows = getattr(structure, name)
        if name in there:
            x = there[name]
            assert rows.dtype == DTYPES[x.dtype]
            assert addresses(rows, x, list(x.shape)) == beginnings(x)
        elif name == "b_scale" and case.blocks == 0:
            assert (rows.base, rows.dtype) == (e.b_scale.data_ptr(), DTYPES[torch.float32])
        else:
            assert rows.base is None
    if case.blocks != 2:
        steps = [4 * m * structure.a_scale_stride for m in range(M)]
        read = [ctypes.c_float.from_address(structure.a_scale + step).value for step in steps]
        assert read == e.a_scale.expand(M, 1).flatten().tolist()
    assert structure.out_scale == (None if e.out_scale is None else e.out_scale.data_ptr())
    # Nothing is copied, so what is held is what was given.
    assert {x.data_ptr() for x in operands.held} == {address for _, address in pointers(structure)}


@given(cases())
def test_the_macros_of_an_epilogue(case: Case) -> None:
    found = planned(case)[0].defines
    assert set(found) == {"OUT", "ACTIVATE", "PARTS", "BLOCK_SCALES", "ALIGNED", "FAST_SUMS"}
    assert found["OUT"] == DTYPES[case.epilogue.out_dtype]
    assert found["ACTIVATE"] == ACTIVATIONS[case.epilogue.activation]
    assert found["FAST_SUMS"] == case.epilogue.fast_accumulate
    again = defines(case.epilogue, parts=found["PARTS"], blocks=found["BLOCK_SCALES"], aligned=bool(found["ALIGNED"]))
    assert again == found
    assert all(type(number) is int for number in found.values())


@pytest.mark.parametrize("k", [256, 250, 241])
def test_blocks_are_those_of_k_before_it_was_padded(k: int) -> None:
    scales = Epilogue(torch.ones(M, 2), torch.ones(1, 2))
    assert plan(Operands(), scales, 16, k).blocks == BLOCKS_OF_BOTH


def test_a_scale_for_all_is_read_once_wherever_it_lies() -> None:
    """It is no row: neither its place nor its strides make rows unaligned."""
    operands = Operands()
    found = plan(operands, Epilogue(torch.ones(3, 1)[1:2], torch.ones(3)[1:2]), 16, 16)
    assert (found.defines["PARTS"], found.defines["ALIGNED"]) == (PARTS["one_b_scale"], 1)
    assert found.structure.a_scale_stride == 0


def test_an_absent_operand_is_null() -> None:
    found = plan(Operands(), Epilogue(torch.ones(1, 1), torch.ones(1, 1)), 16, 16).structure
    assert isinstance(found, structures.Epilogue)
    assert [name for name, _ in pointers(found)] == ["b_scale.base", "a_scale"]
