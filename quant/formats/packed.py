"""compressed-tensors' `pack-quantized` tensors: several codes in an int32, offset so that none is negative.

What 4-bit weights and 8-bit ones for 16-bit inputs have in common: the codes' tensor, and one that says their shape.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch

from quant.formats.base import Tensors, TensorSpec, WeightFormat
from quant.formats.grid import Grid, scale_dtype, scale_shape
from quant.formats.scheme import Scheme, TensorFormat
from quant.text import shown

#: Name of the order of a checkpoint.
PACKED = "packed"
_SHAPE = "weight_shape"


class Packed(WeightFormat):
    """Codes in int32s, their shape stored with them."""

    main = "weight_packed"
    stored_order = PACKED
    bits: ClassVar[int]

    def __init__(self, scheme: Scheme) -> None:
        super().__init__(scheme)
        assert scheme.weights is not None
        self._weights = scheme.weights

    @classmethod
    def takes(cls, scheme: Scheme, sparse: bool) -> bool:
        return not sparse and scheme.weights is not None and cls.is_about(scheme.weights, scheme.input_activations)

    @classmethod
    def refuses(cls, weights: TensorFormat, inputs: TensorFormat | None) -> str | None:
        if weights.strategy not in ("group", "channel"):
            return f"weights: strategy {shown(weights.strategy)}; supported: group, channel"
        if not weights.symmetric and (weights.num_bits == 8 or inputs is not None):
            return "weights: asymmetric is supported for 4-bit weights of 16-bit inputs"
        return None

    @staticmethod
    @abstractmethod
    def pack(codes: torch.Tensor) -> torch.Tensor:
        """Return int8 codes [N, K] as int32 [N, ceil(K * bits / 32)], the first column in the lowest bits."""

    @staticmethod
    @abstractmethod
    def unpack(packed: torch.Tensor, k: int) -> torch.Tensor:
        """Return the int8 codes [N, k] that `pack` was given."""

    @property
    def file_formats(self) -> tuple[str, ...]:
        return ("pack-quantized",)

    def layout(self, n: int, k: int) -> dict[str, TensorSpec]:
        return {
            self.main: TensorSpec(torch.int32, (n, self._words(k))),
            "weight_scale": TensorSpec(scale_dtype(self._weights), scale_shape(self._weights, n, k)),
            _SHAPE: TensorSpec(torch.int64, (2,)),
        }

    def scales(self, grid: Grid | None, n: int, k: int) -> Tensors:
        assert grid is not None
        return {
            "weight_scale": grid.scale.to(scale_dtype(self._weights)),
            _SHAPE: torch.tensor([n, k], dtype=torch.int64, device="cpu"),
        }

    def codes(self, weight: torch.Tensor, scales: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.pack(self._grid(scales, len(weight)).codes(weight))

    def decode(self, tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
        n, k = tensors[_SHAPE].tolist()
        return self._grid(tensors, n).values(self.unpack(tensors[self.main], k))

    def size(
        self, layer: str, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], torch.Tensor]
    ) -> tuple[int, ...]:
        n, k = read(_SHAPE).tolist()
        if shapes[self.main] != (n, self._words(k)):
            stored = f"'{layer}.{self.main}' is {list(shapes[self.main])}"
            raise ValueError(f"tensor '{layer}.{_SHAPE}' is {[n, k]}, but {stored}")
        return (n, k)

    def unfit(self, leaf: str, tensor: torch.Tensor, n: int, k: int) -> str | None:
        if leaf != _SHAPE or tensor.tolist() == [n, k]:
            return None
        return f"is {tensor.tolist()}, the weight is {[n, k]}"

    def join_rows(self, leaf: str, tensors: Sequence[torch.Tensor], sizes: Sequence[int]) -> torch.Tensor:
        return _of_rows(tensors[0], sum(sizes)) if leaf == _SHAPE else super().join_rows(leaf, tensors, sizes)

    def take_rows(self, leaf: str, whole: torch.Tensor, sizes: Sequence[int], index: int) -> torch.Tensor:
        return _of_rows(whole, sizes[index]) if leaf == _SHAPE else super().take_rows(leaf, whole, sizes, index)

    def put_rows(self, leaf: str, whole: torch.Tensor, sizes: Sequence[int], index: int, value: torch.Tensor) -> None:
        if leaf != _SHAPE:  # which says what is known
            super().put_rows(leaf, whole, sizes, index, value)

    def _grid(self, tensors: Mapping[str, torch.Tensor], n: int) -> Grid:
        return Grid(self._weights, tensors["weight_scale"].float())

    def _words(self, k: int) -> int:
        return -(-k * self.bits // 32)

    @property
    def group(self) -> int:
        return self._weights.group_size or 0


def shape_tensor(n: int, k: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Return the tensor that says the shape [n, k] of packed codes, by its name."""
    return {_SHAPE: torch.tensor([n, k], dtype=torch.int64, device=device)}


def _of_rows(shape: torch.Tensor, n: int) -> torch.Tensor:
    found = shape.clone()
    found[0] = n
    return found
