"""The CUDA kernels of this project, best first: the one list, which everything else loops over."""

from __future__ import annotations

from typing import Any

from quant.kernels.matmuls import mma_gemm, mma_packed, quantize_rows, sm90_gemm, sm90_packed
from quant.kernels.matmuls.base import Kernel, Matmul

KERNELS: tuple[Kernel, ...] = (
    *sm90_gemm.KERNELS,
    *mma_gemm.KERNELS,
    *sm90_packed.SPARSE,
    *mma_packed.SPARSE,
    *sm90_packed.INT4,
    *mma_packed.INT4,
    *quantize_rows.KERNELS,
)


def matmuls() -> dict[str, Matmul[Any]]:
    """Those that are cut into tiles, by name."""
    return {kernel.name: kernel for kernel in KERNELS if isinstance(kernel, Matmul)}
