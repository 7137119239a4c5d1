"""8-bit codes for an input of 16 bits, scales a row or a group of columns; `ops.int8_mm` multiplies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch

from quant.formats.base import ROW_MAJOR, Ending, Tensors, Windows
from quant.formats.grid import scale_count, scale_dtype
from quant.formats.packed import Packed, shape_tensor
from quant.formats.scheme import TensorFormat
from quant.kernels import ops
from quant.kernels.cpu import encode_rows

_OFFSET = 128  # the first bit of every byte flipped


class Int8WeightOnly(Packed):
    """Four codes in an int32 of a checkpoint, int8 [N, K] while the layer runs."""

    op = "int8_mm"
    bits = 8
    packing = encode_rows.OFFSET

    @classmethod
    def is_about(cls, weights: TensorFormat, inputs: TensorFormat | None) -> bool:
        return weights.num_bits == cls.bits and weights.type == "int" and inputs is None

    @staticmethod
    def pack(codes: torch.Tensor) -> torch.Tensor:
        n, k = codes.shape
        stored = torch.nn.functional.pad(codes.view(torch.uint8) ^ _OFFSET, (0, -k % 4))
        return stored.contiguous().view(torch.int32).reshape(n, -1)

    @staticmethod
    def unpack(packed: torch.Tensor, k: int) -> torch.Tensor:
        return (packed.contiguous().view(torch.uint8) ^ _OFFSET).view(torch.int8)[:, :k].contiguous()

    def wanted_order(self, tensors: Mapping[str, torch.Tensor], n: int, k: int, device: torch.device) -> str:
        return ROW_MAJOR

    def running(self, stored: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        return {"weight": self.unpack(stored[self.main], k), "weight_scale": stored["weight_scale"]}

    def stored(self, running: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        codes = running["weight"]
        found = {self.main: self.pack(codes), "weight_scale": running["weight_scale"]}
        return found | shape_tensor(n, k, codes.device)

    def multiply(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **ending: Unpack[Ending],
    ) -> torch.Tensor:
        return ops.int8_mm(a, tensors["weight"], tensors["weight_scale"], **ending)

    def convolve(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **over: Unpack[Windows],
    ) -> torch.Tensor:
        return ops.scaled_conv(a, a_scale, tensors["weight"], tensors["weight_scale"], **over)

    @property
    def numbers(self) -> str:
        return "int8 x"

    def nbytes(self, n: int, k: int) -> int:
        return n * k + scale_count(self._weights, n, k) * scale_dtype(self._weights).itemsize
