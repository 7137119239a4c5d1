"""Matmuls of INT8 codes by the one that torch itself has, followed by the reference's epilogue.

All are bit-equal to the reference, since both sums are exact.
"""

from __future__ import annotations

import torch

from quant.kernels import reference, reference_packed, weight_orders
from quant.kernels.arguments import Epilogue, Int4Weight, Sparse24Weight
from quant.kernels.layouts import nibbles, sparse24


def scaled_mm_int8(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """`ops.scaled_mm` on INT8 a [M, K] and b [N, K]."""
    return reference.finish(reference.apply_scales(_product(a, b), epilogue), epilogue)


def int4_mm_int8(a: torch.Tensor, b: Int4Weight, epilogue: Epilogue) -> torch.Tensor:
    """`ops.int4_mm` on INT8 a [M, K], one product a group; with a weight in any order."""
    b = weight_orders.plain(b, a.shape[1])
    sums = reference_packed.by_group(a, nibbles.unpack(b.packed, a.shape[1]), b.scale, _product)
    return reference.finish(sums * epilogue.a_scale, epilogue)


def sparse_scaled_mm_int8(a: torch.Tensor, b: Sparse24Weight, epilogue: Epilogue) -> torch.Tensor:
    """`ops.sparse_scaled_mm` on INT8 a [M, K], with a weight in any order."""
    b = weight_orders.plain(b, a.shape[1])
    return scaled_mm_int8(a, sparse24.decompress(b.values, b.meta, a.shape[1]), epilogue)


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch._int_mm(a.contiguous(), b.contiguous().T).float()
