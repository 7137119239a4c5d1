"""Scales by group as kernels are told of them, by hand."""

from __future__ import annotations

import pytest
import torch

from quant.kernels.arguments import Int4Weight, Sparse24Weight
from quant.kernels.host.operands import Operands
from quant.kernels.host.structures import DTYPES
from quant.kernels.layouts import int4_fragments
from quant.kernels.matmuls.packed import Variant, groups

INT8, FP8, BF16 = torch.int8, torch.float8_e4m3fn, torch.bfloat16


def weight(k: int, count: int, dtype: torch.dtype = BF16, zero: bool = False) -> Int4Weight:
    slabs = -(-k // 64)
    scale = torch.ones(count, 32, dtype=dtype)
    points = torch.zeros(count, 32, dtype=INT8) if zero else None
    return Int4Weight(torch.zeros(slabs, 2, 32, 4, dtype=torch.int32), scale, points, 20, int4_fragments.NAME_8)


@pytest.mark.parametrize(
    ("k", "count", "dtype", "step_k", "of_step", "steps", "promote"),
    [
        (512, 16, INT8, 64, 2, 1, 1),  # groups of 32
        (512, 8, INT8, 64, 1, 1, 1),
        (512, 4, INT8, 64, 1, 2, 2),
        (512, 4, INT8, 128, 1, 1, 1),
        (512, 8, INT8, 128, 2, 1, 1),
        (512, 16, INT8, 128, 4, 1, 1),
        (512, 1, INT8, 64, 1, 8, 8),  # one a row: promoted in the end
        (500, 1, INT8, 128, 1, 4, 4),
        (1024, 2, FP8, 64, 1, 8, 2),  # FP8 every 128 of K at least
        (1024, 2, FP8, 128, 1, 4, 1),
        (1024, 16, FP8, 64, 1, 1, 1),
        (512, 16, BF16, 64, 2, 1, 1),
        (512, 4, BF16, 64, 1, 2, 2),
        (4, 1, BF16, 64, 1, 1, 1),
    ],
)
def test_groups_and_promotion(
    k: int, count: int, dtype: torch.dtype, step_k: int, of_step: int, steps: int, promote: int
) -> None:
    found = groups(Operands(), dtype, weight(k, count), k, step_k)
    assert (found.variant.groups, found.structure.steps, found.promote_steps) == (of_step, steps, promote)
    assert (found.structure.groups, found.structure.blocks) == (count, 2)


def test_tensors_are_held_and_named() -> None:
    operands, given = Operands(), weight(128, 1, torch.float32, zero=True)
    found = groups(operands, BF16, given, 128, 64)
    assert given.zero is not None
    assert (found.structure.scales, found.structure.zeros) == (given.scale.data_ptr(), given.zero.data_ptr())
    assert found.structure.dtype == DTYPES[torch.float32]
    assert any(held is given.scale for held in operands.held)
    assert any(held is given.zero for held in operands.held)


@pytest.mark.parametrize(
    ("dtype", "scale_dtype", "own"),
    [(BF16, BF16, True), (BF16, torch.float32, False), (torch.float16, BF16, False), (INT8, torch.float32, True)],
)
def test_whether_scales_are_the_inputs_own(dtype: torch.dtype, scale_dtype: torch.dtype, own: bool) -> None:
    assert groups(Operands(), dtype, weight(128, 1, scale_dtype), 128, 64).variant.own_scales == own


def test_a_sparse_weight_has_none() -> None:
    sparse = Sparse24Weight(torch.zeros(1), torch.zeros(1), 20, "mma_sparse24")
    for step_k, promote in ((64, 2), (128, 1)):
        found = groups(Operands(), FP8, sparse, 512, step_k)
        assert (found.variant, found.promote_steps) == (Variant(FP8), promote)
        assert found.structure.scales is None


def test_macros_of_a_variant() -> None:
    assert Variant(torch.float16, 2, asymmetric=True, own_scales=False).defines() == {
        "IN": DTYPES[torch.float16],
        "GROUPS_OF_STEP": 2,
        "ASYMMETRIC": 1,
        "OWN_SCALES": 0,
    }
