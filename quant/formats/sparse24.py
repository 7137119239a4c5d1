"""2:4 sparse weights: the two kept of every four columns, and which they are; `ops.sparse_scaled_mm` multiplies them.

Codes, or floats where the layer is only sparse. In a checkpoint their zeros are stored, so that any reader has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Unpack

import torch

from quant.formats.base import Ending, Tensors, TensorSpec, WeightFormat, Windows
from quant.formats.dense8 import Dense8
from quant.formats.grid import Grid
from quant.formats.layer import SPARSITY
from quant.formats.scheme import Scheme
from quant.kernels import ops, prepacking
from quant.kernels.arguments import Sparse24Weight
from quant.kernels.cpu.encode_rows import Encoding
from quant.kernels.layouts import sparse24


class Sparse24(WeightFormat):
    """Dense in a checkpoint; values [N, K/2] and metadata, in the order of a kernel, while the layer runs."""

    op = "sparse_scaled_mm"
    plain_order = sparse24.NAME

    def __init__(self, scheme: Scheme) -> None:
        super().__init__(scheme)
        self._dense = None if scheme.weights is None else Dense8(scheme)

    @classmethod
    def takes(cls, scheme: Scheme, sparse: bool) -> bool:
        if not sparse or scheme.weights is None:
            return sparse
        return Dense8.takes(scheme, False) and scheme.weights.strategy in ("channel", "tensor")

    def misfit(self, n: int, k: int) -> str | None:
        return f"2:4 needs in_features a multiple of 4, got {k}" if k % 4 else None

    @property
    def file_formats(self) -> tuple[str, ...]:
        return ("dense",) if self._dense is None else self._dense.file_formats

    def layout(self, n: int, k: int) -> dict[str, TensorSpec]:
        return {"weight": TensorSpec(None, (n, k))} if self._dense is None else self._dense.layout(n, k)

    def scales(self, grid: Grid | None, n: int, k: int) -> Tensors:
        return {} if self._dense is None else self._dense.scales(grid, n, k)

    def codes(self, weight: torch.Tensor, scales: Mapping[str, torch.Tensor]) -> torch.Tensor:
        coded = weight if self._dense is None else self._dense.codes(weight, scales)
        # Through the layout in which it runs: that checks it, and leaves no negative zeros that would not come back.
        return sparse24.decompress(*sparse24.compress(coded), coded.shape[1])

    def encoding(self) -> Encoding | None:
        dense = None if self._dense is None else self._dense.encoding()
        return None if dense is None else replace(dense, sparse=True)

    def decode(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return tensors["weight"].float() if self._dense is None else self._dense.decode(tensors)

    def unfit(self, leaf: str, tensor: torch.Tensor, n: int, k: int) -> str | None:
        return _more_than_two_of_four(tensor) if leaf == self.main else None

    def wanted_order(self, tensors: Mapping[str, torch.Tensor], n: int, k: int, device: torch.device) -> str:
        values = tensors["weight"] if "weight" in tensors else tensors["weight_values"]
        return prepacking.wanted(self.op, values.dtype, n, k, device)

    def running(self, stored: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        values, meta = sparse24.compress(stored["weight"])
        weight = prepacking.packed(Sparse24Weight(values, meta, n), order, k)
        scales = {name: tensor for name, tensor in stored.items() if name != "weight"}
        return {"weight_values": weight.values, "weight_meta": weight.meta, **scales}

    def stored(self, running: Mapping[str, torch.Tensor], order: str, n: int, k: int) -> Tensors:
        weight = prepacking.plain(Sparse24Weight(running["weight_values"], running["weight_meta"], n, order), k)
        scales = {name: tensor for name, tensor in running.items() if name not in ("weight_values", "weight_meta")}
        return {"weight": sparse24.decompress(weight.values, weight.meta, k), **scales}

    def multiply(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **ending: Unpack[Ending],
    ) -> torch.Tensor:
        values, meta, scale, order = self._plain_where_wider(tensors, order, a, a.shape[-1], n)
        return ops.sparse_scaled_mm(a, a_scale, values, meta, scale, layout=order, n=n, **ending)

    def convolve(
        self,
        tensors: Mapping[str, torch.Tensor],
        order: str,
        a: torch.Tensor,
        a_scale: torch.Tensor | None,
        n: int,
        **over: Unpack[Windows],
    ) -> torch.Tensor:
        k = math.prod(over["kernel_size"]) * a.shape[-1]
        values, meta, scale, order = self._plain_where_wider(tensors, order, a, k, n)
        return ops.scaled_conv(a, a_scale, values, scale, b_meta=meta, layout=order, n=n, **over)

    def _plain_where_wider(
        self, tensors: Mapping[str, torch.Tensor], order: str, a: torch.Tensor, k: int, n: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, str]:
        """Values in a's dtype, metadata, scales a row, and their order, for an input a of a weight [n, k]."""
        values, meta, scale = tensors["weight_values"], tensors["weight_meta"], tensors.get("weight_scale")
        if values.itemsize != a.itemsize:  # floats of another width, which the other orders do not have
            values, meta, _, order = prepacking.plain(Sparse24Weight(values, meta, n, order), k)
        return values.to(a.dtype), meta, None if scale is None else scale.reshape(-1, 1), order

    @property
    def numbers(self) -> str:
        return "sparse"

    def nbytes(self, n: int, k: int) -> int:
        if self._dense is None:
            values, scales = n * k, 0  # two of four values of two bytes each
        else:
            values, scales = n * (k // 2), self._dense.nbytes(n, k) - n * k
        return values + n * -(-k // 8) + scales  # and four bits of each four that say which


def _more_than_two_of_four(weight: torch.Tensor) -> str | None:
    if sparse24.is_24(weight):
        return None
    try:
        sparse24.compress(weight)
    except ValueError as error:
        return f"is not {SPARSITY}: {str(error).removeprefix('sparse24: ')}"
    return f"is not {SPARSITY}"
