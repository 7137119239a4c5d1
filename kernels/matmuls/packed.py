"""What the hosts of both kinds of kernels with the weight as left operand share: its tensors, and its group scales."""

from __future__ import annotations

from typing import NamedTuple

import torch

from quant.kernels.arguments import Int4Weight, Sparse24Weight
from quant.kernels.checks import CODES
from quant.kernels.host.operands import Operands
from quant.kernels.host.structures import DTYPES, GroupScales
from quant.kernels.layouts.fragments import BLOCK

Weight = Int4Weight | Sparse24Weight
#: FP8 sums are promoted at least after so many columns of K.
PROMOTED_K = 128


class Variant(NamedTuple):
    """What of its operands a kernel is compiled for.

    Attributes:
        dtype: of the other operand.
        groups: scales of one row in a step, where it has several; else 1.
        asymmetric: are there zero points?
        own_scales: are scales by group of `dtype`? Where that has codes it makes no difference.
    """

    dtype: torch.dtype
    groups: int = 1
    asymmetric: bool = False
    own_scales: bool = True

    def defines(self) -> dict[str, int]:
        """The macros of a build."""
        return {
            "IN": DTYPES[self.dtype],
            "GROUPS_OF_STEP": self.groups,
            "ASYMMETRIC": int(self.asymmetric),
            "OWN_SCALES": int(self.own_scales),
        }


class PlannedGroups(NamedTuple):
    """The scales by group of a weight.

    Attributes:
        structure: of int4_scales.cuh.
        variant: what a kernel is compiled for.
        promote_steps: after so many steps sums are promoted.
    """

    structure: GroupScales
    variant: Variant
    promote_steps: int


def groups(operands: Operands, dtype: torch.dtype, weight: Weight, k: int, step_k: int) -> PlannedGroups:
    """Of a weight with `k` columns, for a kernel that takes `step_k` of them at a time. Its tensors are held.

    Args:
        operands: hold them.
        dtype: of the other operand.
        weight: in the kernel's layout.
        k, step_k: columns, and those of a step.
    """
    steps = max(-(-k // step_k), 1)
    if isinstance(weight, Sparse24Weight):
        return PlannedGroups(GroupScales(), Variant(dtype), max(PROMOTED_K // step_k, 1))
    count = weight.scale.shape[0]
    columns = k // count if count > 1 else steps * step_k
    shared = max(columns // step_k, 1)
    structure = GroupScales(
        scales=operands.address(weight.scale),
        zeros=operands.address(weight.zero),
        groups=count,
        blocks=weight.scale.shape[1] // BLOCK,
        steps=shared,
        dtype=DTYPES[weight.scale.dtype],
    )
    # FP8 sums are promoted also within a group; whole parts of it, so that no part has two scales.
    most = max(PROMOTED_K // step_k, 1)
    promote = most if dtype == torch.float8_e4m3fn and shared % most == 0 else shared
    own = dtype in CODES or weight.scale.dtype == dtype
    return PlannedGroups(structure, Variant(dtype, max(step_k // columns, 1), weight.zero is not None, own), promote)
