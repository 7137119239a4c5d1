"""The kernels whose left operand is the weight: which this GPU runs, and one case of them by the op."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from quant.kernels import dispatch, ops, tile_tables
from quant.kernels.arguments import Epilogue, Int4Weight, Sparse24Weight
from quant.kernels.matmuls.base import Tile
from quant.kernels.matmuls.mma_packed import PackedTile
from quant.kernels.matmuls.table import matmuls
from quant.kernels.numerics import CODES
from quant.kernels.runtime import cupy_launch
from quant.kernels.runtime.architectures import ARCHITECTURES, Architecture
from tests.kernels.packed_cases import KINDS, Case

DEVICE = torch.device("cuda")
SPARSE, PACKED = "sparse_scaled_mm", "int4_mm"
_LIMITS = {each.name: each.limits[0] for each in dispatch.implementations() if each.name in KINDS}


def here() -> Architecture:
    """Of this GPU; without one that of any, since conftest then fails every test with the reason."""
    if not torch.cuda.is_available():
        return ARCHITECTURES["sm_80"]
    return cupy_launch.device_architecture(torch.cuda.current_device())


def names(op: str | None = None) -> list[str]:
    """The kernels that this GPU runs, of one op or of both."""
    capability = here().capability
    return [name for name, kind in KINDS.items() if capability in _LIMITS[name].capabilities and op in (None, kind.op)]


def with_dtypes(op: str | None = None) -> list[tuple[str, torch.dtype]]:
    """Each with every dtype that it takes."""
    return [(name, dtype) for name in names(op) for dtype in KINDS[name].dtypes]


def tiles() -> list[tuple[str, Tile]]:
    """Each with every tile that fits."""
    return [(name, tile) for name in names() for tile in matmuls()[name].tiles(here())]


def least_rows(name: str) -> int:
    """Fewer are left to another kernel."""
    return _LIMITS[name].m_at_least


def shares_k(name: str, m: int, n: int, k: int) -> bool:
    """Does the tile that the op takes let warps share K?"""
    many = torch.cuda.get_device_properties(DEVICE).multi_processor_count
    tile = tile_tables.choose(name, m, n, k, here(), many).tile
    return isinstance(tile, PackedTile) and tile.warps_k > 1


def moved(case: Case) -> Case:
    """With everything that a kernel reads on the GPU."""
    weight = Int4Weight if isinstance(case.weight, Int4Weight) else Sparse24Weight
    return replace(
        case,
        a=case.a.to(DEVICE),
        weight=weight(*_moved(case.weight)),
        epilogue=Epilogue(*_moved(case.epilogue)),
    )


def _moved(parts: tuple[Any, ...]) -> list[Any]:
    return [x.to(DEVICE) if isinstance(x, torch.Tensor) else x for x in parts]


def by_op(case: Case) -> torch.Tensor:
    """The op on a case that is on the GPU, by its kernel and no other."""
    with dispatch.only(case.kernel):
        return call(case, case.a)


def call(case: Case, a: torch.Tensor) -> torch.Tensor:
    """The op on a [..., K] in the place of the case's, by whatever implementation dispatch takes."""
    e, weight, codes = case.epilogue, case.weight, a.dtype in CODES
    a_scale = e.a_scale if e.a_scale.numel() == 1 else e.a_scale.reshape(*a.shape[:-1], 1)
    rest: dict[str, Any] = {
        "bias": e.bias,
        "activation": e.activation,
        "residual": e.residual,
        "gate": e.gate,
        "out_dtype": e.out_dtype,
        "out_scale": e.out_scale,
        "layout": weight.layout,
        "n": weight.n,
    }
    if isinstance(weight, Int4Weight):
        return ops.int4_mm(a, weight.packed, weight.scale, weight.zero, a_scale=a_scale if codes else None, **rest)
    scales = (a_scale, e.b_scale) if codes else (None, None)
    return ops.sparse_scaled_mm(a, scales[0], weight.values, weight.meta, scales[1], **rest)


def check(out: torch.Tensor, case: Case) -> None:
    """Of a float32 result: INT8 to the bit, others within the case's bound; nan is far from everything."""
    error = (out.cpu() - case.expected).abs()
    assert (error <= case.allowed).all(), (
        f"largest error {error.max()}, allowed {case.allowed.flatten()[error.argmax()]}"
    )
