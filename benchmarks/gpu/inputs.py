"""Random inputs of one matmul, in bf16 and as ready codes."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch

from benchmarks.gpu.shapes import Shape
from quant.kernels.numerics import encode, scale_from_amax

#: Codes of each format.
DTYPES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
#: Rows that are converted at a time, so that float32 copies stay small beside the inputs.
_CHUNK = 8192


class Codes(NamedTuple):
    """Ready operands: a [M, K], b [N, K], and float32 scales, [M, 1] and [N, 1], or both [1, 1]."""

    a: torch.Tensor
    a_scale: torch.Tensor
    b: torch.Tensor
    b_scale: torch.Tensor


class Inputs:
    """What a layer of this shape is given: x [M, K], weight [N, K] and bias [N] in bf16, standard normal outputs."""

    def __init__(self, shape: Shape, device: torch.device, seed: int = 0) -> None:
        generator = torch.Generator(device=device).manual_seed(seed)

        def normal(*size: int) -> torch.Tensor:
            return torch.randn(size, generator=generator, device=device, dtype=torch.bfloat16)

        self.shape = shape
        self.x = normal(shape.m, shape.k)
        self.weight = normal(shape.n, shape.k) * shape.k**-0.5
        self.bias = normal(shape.n)
        self._codes: dict[str, Codes] = {}

    def codes(self, form: str) -> Codes:
        """One scale a row of x and of the weight; made once. `form` is "int8" or "fp8"."""
        if form not in self._codes:
            dtype = DTYPES[form]
            self._codes[form] = Codes(*by_rows(self.x, dtype), *by_rows(self.weight, dtype))
        return self._codes[form]

    @cached_property
    def tensorwise(self) -> Codes:
        """FP8 with one scale for x and one for the weight."""
        dtype = DTYPES["fp8"]
        return Codes(*by_tensor(self.x, dtype), *by_tensor(self.weight, dtype))


def by_rows(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [R, K] and scales [R, 1] of x [R, K], by the definition that all formats share."""
    scale = scale_from_amax(x.abs().amax(dim=1, keepdim=True), dtype)
    return _encoded(x, scale, dtype), scale


def by_tensor(x: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes [R, K] and one scale [1, 1] of x [R, K]."""
    scale = scale_from_amax(x.abs().amax().reshape(1, 1), dtype)
    return _encoded(x, scale, dtype), scale


def _encoded(x: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    codes = torch.empty(x.shape, dtype=dtype, device=x.device)
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        codes[part] = encode(x[part], scale if len(scale) == 1 else scale[part], dtype)
    return codes
