"""Random inputs of one matmul: in bf16, as ready codes, and with its other weights."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch

from benchmarks.gpu import weights
from benchmarks.gpu.shapes import Shape
from quant.kernels import weight_orders
from quant.kernels.arguments import Int4Weight, Sparse24Weight
from quant.kernels.layouts import sparse24
from quant.kernels.numerics import encode, scale_from_amax

#: Codes of each format.
DTYPES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
#: Rows that are converted at a time, so that float32 copies stay small next to the inputs.
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
        self.weight: torch.Tensor = normal(shape.n, shape.k) * shape.k**-0.5
        self.bias = normal(shape.n)
        self._coded: dict[tuple[str, str, bool], tuple[torch.Tensor, torch.Tensor]] = {}
        self._packed: dict[tuple[str, str], Int4Weight | Sparse24Weight] = {}

    def weight_of(self, kind: str) -> torch.Tensor:
        """The bf16 weight [N, K] that a layer has whose weight is "dense", "2:4" or "int4"."""
        if kind == "dense":
            return self.weight
        return self.pruned if kind == "2:4" else self.dequantized

    @cached_property
    def pruned(self) -> torch.Tensor:
        """The weight made 2:4."""
        return weights.pruned(self.weight)

    @cached_property
    def dequantized(self) -> torch.Tensor:
        """What is left of the weight in four bits."""
        return weights.dequantized(self._four_bits, self.shape.k)

    @cached_property
    def _four_bits(self) -> Int4Weight:
        return weights.four_bits(self.weight)

    def codes(self, format_name: str, weight: str = "dense", *, one_scale: bool = False) -> Codes:
        """x and a weight in codes; made once.

        Args:
            format_name: "int8" or "fp8".
            weight: "dense" or "2:4".
            one_scale: for x and for the weight, instead of one a row.
        """
        return Codes(*self._codes(format_name, "x", one_scale), *self._codes(format_name, weight, one_scale))

    @property
    def tensorwise(self) -> Codes:
        """FP8 with one scale for x and one for the weight."""
        return self.codes("fp8", one_scale=True)

    def sparse(self, format_name: str, layout: str) -> Sparse24Weight:
        """The 2:4 weight in the order of a kernel, in bf16 or in codes; made once."""
        key = (format_name, layout)
        if key not in self._packed:
            dense = self.pruned if format_name == "bf16" else self.codes(format_name, "2:4").b
            plain = Sparse24Weight(*sparse24.compress(dense), self.shape.n)
            self._packed[key] = weight_orders.packed(plain, layout, self.shape.k)
        found = self._packed[key]
        assert isinstance(found, Sparse24Weight)
        return found

    def int4(self, layout: str) -> Int4Weight:
        """The 4-bit weight in an order; made once."""
        key = ("int4", layout)
        if key not in self._packed:
            self._packed[key] = weight_orders.packed(self._four_bits, layout, self.shape.k)
        found = self._packed[key]
        assert isinstance(found, Int4Weight)
        return found

    def _codes(self, format_name: str, of: str, one_scale: bool) -> tuple[torch.Tensor, torch.Tensor]:
        key = (format_name, of, one_scale)
        if key not in self._coded:
            values = self.x if of == "x" else self.weight_of(of)
            self._coded[key] = (by_tensor if one_scale else by_rows)(values, DTYPES[format_name])
        return self._coded[key]


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
