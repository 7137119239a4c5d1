"""Matmuls of INT8 codes by the one that torch itself has, followed by the reference's epilogue.

All are bit-equal to the reference, since both sums are exact.
"""

from __future__ import annotations

import torch

from quant.kernels import reference, reference_packed
from quant.kernels.arguments import Epilogue
from quant.kernels.layouts import nibbles, sparse24


def scaled_mm_int8(a: torch.Tensor, b: torch.Tensor, epilogue: Epilogue) -> torch.Tensor:
    """`ops.scaled_mm` on INT8 a [M, K] and b [N, K]."""
    return reference.finish(reference.apply_scales(_product(a, b), epilogue), epilogue)


def int4_mm_int8(
    a: torch.Tensor, b_packed: torch.Tensor, b_scale: torch.Tensor, b_zero: torch.Tensor | None, epilogue: Epilogue
) -> torch.Tensor:
    """`ops.int4_mm` on INT8 a [M, K], one product a group."""
    sums = reference_packed.by_group(a, nibbles.unpack(b_packed, a.shape[1]), b_scale, _product)
    return reference.finish(sums * epilogue.a_scale, epilogue)


def sparse_scaled_mm_int8(
    a: torch.Tensor, b_values: torch.Tensor, b_meta: torch.Tensor, epilogue: Epilogue
) -> torch.Tensor:
    """`ops.sparse_scaled_mm` on INT8 a [M, K]."""
    return scaled_mm_int8(a, sparse24.decompress(b_values, b_meta, a.shape[1]), epilogue)


def _product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return torch._int_mm(a.contiguous(), b.contiguous().T).float()
