"""4-bit codes for 16-bit inputs or 8-bit codes, a scale a row or a group of columns; `ops.int4_mm` multiplies them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

import torch

from quant.formats.base import Ending, Tensors, TensorSpec, Windows
from quant.formats.eight_bit import storage_dtype
from quant.formats.grid import Grid, scale_count, scale_dtype, scale_shape
from quant.formats.packed import Packed, shape_tensor
from quant.formats.scheme import TensorFormat
from quant.kernels import ops, prepacking
from quant.kernels.arguments import Int4Weight
from quant.kernels.cpu import encode_rows
from quant.kernels.layouts import nibbles

_ZEROS = "weight_zero_point"


class Int4(Packed):
    """Nibbles with bfloat16 scales and, asymmetric, 4-bit zero points: as a file packs them, or in the order of lanes.

    While a layer runs its zero points are one a byte, int8 [N, K/g]. Orders are those of `quant.kernels.weight_orders`.
    """

    op = "int4_mm"
    plain_order = nibbles.NAME
    bits = 4
    packing = encode_rows.NIBBLES
    pack = staticmethod(nibbles.pack)
    unpack = staticmethod(nibbles.unpack)

    @classmethod
    def is_about(cls, weights: TensorFormat, inputs: TensorFormat | None) -> bool:
        return weights.num_bits == cls.bits and weights.type == "int"

    @classmethod
    def refuses(cls, weights: TensorFormat, inputs: TensorFormat | None) -> str | None:
        reason = super().refuses(weights, inputs)
        if reason is not None or inputs is None:
            return reason
        if (inputs.num_bits, inputs.symmetric, inputs.strategy, inputs.dynamic) != (8, True, "token", True):
            return "input_activations: 4-bit weights take 16-bit inputs or dynamic 8-bit 'token' ones"
        if inputs.type not in ("int", "float"):
            return f"input_activations.type: must be 'int' or 'float', got {inputs.type!r}"
        return None

    def layout(self, n: int, k: int) -> dict[str, TensorSpec]:
        found = super().layout(n, k)
        if self._weights.symmetric:
            return found
        zeros = TensorSpec(torch.int32, (nibbles.width(n), scale_shape(self._weights, n, k)[1]))
        return {self.main: found[self.main], "weight_scale": found["weight_scale"], _ZEROS: zeros, **found}

    def scales(self, grid: Grid | None, n: int, k: int) -> Tensors:
        found = super().scales(grid, n, k)
        if grid is None or grid.zero_point is None:
            return found
        return {"weight_scale": found["weight_scale"], _ZEROS: nibbles.pack_rows(grid.zero_point), **found}

    def _grid(self, tensors: Mapping[str, torch.Tensor], n: int) -> Grid:
        zeros = tensors.get(_ZEROS)
        return Grid(
            self._weights, tensors["weight_scale"].float(), None if zeros is None else nibbles.unpack_rows(zeros, n)
        )

    def wanted_order(self, tensors: Mapping[str, torch.Tensor], n: int, k: int, device: torch.device) -> str:
        inputs = self.scheme.input_activations
        # An input that is not quantized is of 16 bits, whichever of the two.
        dtype = torch.bfloat16 if inputs is None else storage_dtype(inputs)
        return prepacking.wanted(self.op, dtype, n, k, device, self.group)

    def running(self, stored: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        zeros = stored.get(_ZEROS)
        zero = None if zeros is None else nibbles.unpack_rows(zeros, n)
        weight = prepacking.packed(Int4Weight(stored[self.main], stored["weight_scale"], zero, n), order, k)
        found = {"weight_codes": weight.packed, "weight_scale": weight.scale}
        return found if weight.zero is None else {**found, "zero_point": weight.zero}

    def stored(self, running: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        weight = prepacking.plain(self._weight(running, order, n), k)
        found = {self.main: weight.packed, "weight_scale": weight.scale}
        if weight.zero is not None:
            found[_ZEROS] = nibbles.pack_rows(weight.zero)
        return found | shape_tensor(n, k, weight.packed.device)

    def multiply(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **ending: Unpack[Ending],
    ) -> torch.Tensor:
        packed, scale, zero = tensors["weight_codes"], tensors["weight_scale"], tensors.get("zero_point")
        return ops.int4_mm(a, packed, scale, zero, a_scale=a_scale, layout=order, n=n, **ending)

    def convolve(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **over: Unpack[Windows],
    ) -> torch.Tensor:
        packed, scale, zero = tensors["weight_codes"], tensors["weight_scale"], tensors.get("zero_point")
        return ops.scaled_conv(a, a_scale, packed, scale, zero, layout=order, n=n, **over)

    @property
    def numbers(self) -> str:
        return "int4 x"

    def nbytes(self, n: int, k: int) -> int:
        each = scale_dtype(self._weights).itemsize + (0 if self._weights.symmetric else 1)
        return 4 * n * nibbles.width(k) + scale_count(self._weights, n, k) * each

    def join_rows(self, leaf: str, tensors: Sequence[torch.Tensor], sizes: Sequence[int]) -> torch.Tensor:
        if leaf != _ZEROS:
            return super().join_rows(leaf, tensors, sizes)
        rows = [nibbles.unpack_rows(tensor, n) for tensor, n in zip(tensors, sizes, strict=True)]
        return nibbles.pack_rows(torch.cat(rows))

    def take_rows(self, leaf: str, whole: torch.Tensor, sizes: Sequence[int], index: int) -> torch.Tensor:
        if leaf != _ZEROS:
            return super().take_rows(leaf, whole, sizes, index)
        start = sum(sizes[:index])
        return nibbles.pack_rows(nibbles.unpack_rows(whole, sum(sizes))[start : start + sizes[index]])

    def put_rows(self, leaf: str, whole: torch.Tensor, sizes: Sequence[int], index: int, value: torch.Tensor) -> None:
        if leaf != _ZEROS:
            super().put_rows(leaf, whole, sizes, index, value)
            return
        start, n = sum(sizes[:index]), sizes[index]
        rows = nibbles.unpack_rows(whole, sum(sizes))
        rows[start : start + n] = nibbles.unpack_rows(value.to(whole.device), n)
        whole.copy_(nibbles.pack_rows(rows))

    @staticmethod
    def _weight(running: Mapping[str, torch.Tensor], order: str, n: int) -> Int4Weight:
        return Int4Weight(running["weight_codes"], running["weight_scale"], running.get("zero_point"), n, order)
