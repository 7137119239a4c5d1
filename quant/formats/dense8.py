"""Dense 8-bit codes, INT8 or FP8, for an input that is quantized to the same; `ops.scaled_mm` multiplies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Unpack

import torch

from quant.formats.base import ROW_MAJOR, Ending, Tensors, TensorSpec, WeightFormat, Windows
from quant.formats.eight_bit import storage_dtype
from quant.formats.grid import Grid, scale_count, scale_dtype, scale_shape
from quant.formats.scheme import Scheme, TensorFormat
from quant.kernels import ops
from quant.kernels.cpu import encode_rows
from quant.kernels.layouts import aligned_rows
from quant.text import shown


class Dense8(WeightFormat):
    """Codes [N, K] as they are; on a GPU in rows of whole 16 bytes, as most are that come."""

    op = "scaled_mm"
    packing = encode_rows.BYTES

    def __init__(self, scheme: Scheme) -> None:
        super().__init__(scheme)
        assert scheme.weights is not None
        self._weights = scheme.weights

    @classmethod
    def takes(cls, scheme: Scheme, sparse: bool) -> bool:
        return not sparse and scheme.weights is not None and cls.is_about(scheme.weights, scheme.input_activations)

    @classmethod
    def is_about(cls, weights: TensorFormat, inputs: TensorFormat | None) -> bool:
        return weights.num_bits == 8 and inputs is not None

    @classmethod
    def refuses(cls, weights: TensorFormat, inputs: TensorFormat | None) -> str | None:
        assert inputs is not None
        if weights.type not in ("int", "float") or not weights.symmetric:
            return "weights: supported are symmetric static 8-bit 'int' and 'float'"
        if weights.strategy not in ("channel", "tensor"):
            return f"weights: strategy {shown(weights.strategy)}; supported: channel, tensor"
        if (inputs.num_bits, inputs.type, inputs.symmetric) != (8, weights.type, True):
            return f"input_activations: must be symmetric 8-bit '{weights.type}' as the weights"
        if (inputs.strategy, inputs.dynamic) not in (("token", True), ("tensor", False)):
            return "input_activations: supported are dynamic 'token' and static 'tensor'"
        return None

    @property
    def file_formats(self) -> tuple[str, ...]:
        # The layout of "naive-quantized" is that of its two successors.
        return ("int-quantized" if self._weights.type == "int" else "float-quantized", "naive-quantized")

    def layout(self, n: int, k: int) -> dict[str, TensorSpec]:
        return {
            "weight": TensorSpec(storage_dtype(self._weights), (n, k)),
            "weight_scale": TensorSpec(scale_dtype(self._weights), scale_shape(self._weights, n, k)),
        }

    def scales(self, grid: Grid | None, n: int, k: int) -> Tensors:
        assert grid is not None
        return {"weight_scale": grid.scale}

    def codes(self, weight: torch.Tensor, scales: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return Grid(self._weights, scales["weight_scale"].float()).codes(weight)

    def decode(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return Grid(self._weights, tensors["weight_scale"].float()).values(tensors["weight"])

    def wanted_order(self, tensors: Mapping[str, torch.Tensor], n: int, k: int, device: torch.device) -> str:
        whole = k == aligned_rows.width(k)
        return ROW_MAJOR if whole or device.type != "cuda" else aligned_rows.NAME

    def running(self, stored: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        return {**stored, "weight": aligned_rows.pack(stored["weight"])}

    def stored(self, running: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        return {**running, "weight": aligned_rows.unpack(running["weight"], k)}

    def multiply(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **ending: Unpack[Ending],
    ) -> torch.Tensor:
        assert a_scale is not None
        codes = aligned_rows.pack(a) if order == aligned_rows.NAME else a
        scale = tensors["weight_scale"] if self.by_block else tensors["weight_scale"].reshape(-1, 1)
        return ops.scaled_mm(codes, a_scale, tensors["weight"], scale, **ending)

    def convolve(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **over: Unpack[Windows],
    ) -> torch.Tensor:
        scale = tensors["weight_scale"] if self.by_block else tensors["weight_scale"].reshape(-1, 1)
        return ops.scaled_conv(a, a_scale, tensors["weight"], scale, **over)

    def nbytes(self, n: int, k: int) -> int:
        return n * k + scale_count(self._weights, n, k) * scale_dtype(self._weights).itemsize
