"""What the kernels with the weight as left operand share, on every architecture: 2:4 sparse or of 4 bits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self

import torch

from quant.kernels.arguments import SCALE_BLOCK, Int4Weight, Sparse24Weight
from quant.kernels.host.operands import Multiplied, Operands
from quant.kernels.host.structures import DTYPES, GroupScales
from quant.kernels.layouts import int4_fragments
from quant.kernels.layouts.fragments import BLOCK
from quant.kernels.matmuls import random_operands
from quant.kernels.matmuls.base import ANY_SIZE, FP8, INT8, LARGEST_SIZE, Gpu, Matmul, T
from quant.kernels.matmuls.endings import others, usual
from quant.kernels.numerics import CODES, LARGEST_INT8_K
from quant.kernels.runtime.architectures import architecture
from quant.kernels.runtime.launch import Build

Weight = Int4Weight | Sparse24Weight
#: Sums of 4-bit codes are kept 16 times too large: K * 127 * 8 * 16 < 2**31.
LARGEST_W4A8_K = (2**31 - 1) // (127 * 8 * 16)
#: Columns that share a scale of a 4-bit weight.
_GROUP_SIZES = (32, 64, 128)
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
    """Scales of a weight with `k` columns, for a kernel that takes `step_k` of them at a time. Its tensors are held.

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


class Packed(Matmul[T]):
    """A kernel whose left operand is the weight: 2:4 sparse, or four bits wide.

    Attributes:
        sparse_layout: name of the order in which 2:4 weights are read.
    """

    sparse_layout: ClassVar[str]

    @classmethod
    def of_sparse(
        cls,
        name: str,
        summary: str,
        dtypes: tuple[torch.dtype, ...],
        architectures: tuple[str, ...],
        instruction: str,
    ) -> Self:
        """A row of a kernel for 2:4 weights; bytes of K are counted, and INT8 is summed in INT32."""
        most = LARGEST_INT8_K if INT8 in dtypes else LARGEST_SIZE // dtypes[0].itemsize
        limits = replace(ANY_SIZE, layouts=(cls.sparse_layout,), k_at_most=most)
        return cls(name, "sparse_scaled_mm", summary, dtypes, architectures, limits, instruction)

    @classmethod
    def of_int4(
        cls,
        name: str,
        summary: str,
        dtypes: tuple[torch.dtype, ...],
        architectures: tuple[str, ...],
        instruction: str,
        *,
        m_at_least: int = 0,
    ) -> Self:
        """A row of a kernel for 4-bit weights, that is offered for so many tokens."""
        layout = int4_fragments.NAME_16 if dtypes[0].itemsize == 2 else int4_fragments.NAME_8
        most = LARGEST_W4A8_K if INT8 in dtypes else LARGEST_SIZE // dtypes[0].itemsize
        limits = replace(ANY_SIZE, layouts=(layout,), group_sizes=_GROUP_SIZES, m_at_least=m_at_least, k_at_most=most)
        return cls(name, "int4_mm", summary, dtypes, architectures, limits, instruction)

    @property
    @abstractmethod
    def step_k(self) -> int:
        """Columns of K that lie next to each other in a step."""

    @property
    @abstractmethod
    def metadata_bytes(self) -> int:
        """Bytes of metadata for 16 rows x 64 columns of a 2:4 weight; else 0."""

    @property
    def sparse(self) -> bool:
        """Is the weight 2:4? Else it is four bits wide."""
        return not self.own_limits.group_sizes

    @property
    def layout(self) -> str:
        """Name of the order that the weight is read in."""
        return self.own_limits.layouts[0]

    @property
    def in_bytes(self) -> int:
        """Bytes of an element of the other operand."""
        return self.dtypes[0].itemsize

    @property
    def weight_bytes(self) -> int:
        """Bytes of 16 rows x 64 columns of the weight, without metadata."""
        return 512 * self.in_bytes if self.sparse else 512

    @property
    def speed(self) -> float:
        """Products that it multiplies in the time of one dense 8-bit product, zeros of the weight counted."""
        return (2.0 if self.sparse else 1.0) / self.in_bytes

    def planned(self, gpu: Gpu, *operands: Any, **named: Any) -> Multiplied:
        a, weight, epilogue = operands
        m, k = a.shape
        fine = not self.sparse and weight.groups > 1 and k // weight.groups < SCALE_BLOCK
        tile = gpu.tile(self, m, weight.n, k, fine)
        return self.plan(a, weight, epilogue, tile, multiprocessors=gpu.multiprocessors)

    def random_weight(self, n: int, k: int, device: torch.device) -> tuple[Weight, torch.Tensor]:
        one = torch.ones(1, 1, device=device)
        if self.sparse:
            return random_operands.sparse(n, k, self.dtypes[0], self.layout, device), one
        return random_operands.int4(n, k, self.layout, device), one

    def builds(self, arch: str) -> tuple[Build, ...]:
        """Every tile with the usual epilogue; the one of most sums with every other way to end, and with every variant.

        The last two only for the oldest architecture: what is written for it is the same for the others.
        """

        def largest(fine_scales: bool) -> T:
            return max(self.tiles(architecture(arch), fine_scales=fine_scales), key=lambda tile: tile.sums)

        plain = Variant(self.dtypes[0]).defines()
        tiles = tuple(self.build(tile, plain, usual()) for tile in self.tiles(architecture(arch)))
        if arch != self.architectures[0]:
            return tiles
        return (
            *tiles,
            *(self.build(largest(False), plain, way) for way in others(FP8 if FP8 in self.dtypes else INT8)),
            *(self.build(largest(variant.groups > 1), variant.defines(), usual()) for variant in self._variants()),
        )

    def _variants(self) -> Iterator[Variant]:
        """What it may be compiled for beyond its first dtype, one scale of a row in a step and no zero points."""
        yield from (Variant(dtype) for dtype in self.dtypes[1:])
        if self.sparse:
            return
        yield from (Variant(self.dtypes[0], groups) for groups in (2, 4) if groups * min(_GROUP_SIZES) <= self.step_k)
        if self.in_bytes == 2:
            yield from (Variant(dtype, groups, asymmetric=True) for dtype in self.dtypes for groups in (1, 2))
            yield from (Variant(dtype, 2, asymmetric=True, own_scales=False) for dtype in self.dtypes)
