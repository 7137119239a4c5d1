"""The values that a stored weight can take: codes times scales, and how a float weight is put onto them.

One `Grid` for every number format and granularity, so that an algorithm which rounds column by column (GPTQ) and the
packing of a file round alike. The arithmetic of an 8-bit code is `quant.kernels.numerics`'.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from quant.formats.eight_bit import storage_dtype
from quant.formats.scheme import BLOCK, TensorFormat
from quant.kernels.numerics import LARGEST, SMALLEST_SCALE, encode, scale_from_amax


@dataclass(frozen=True)
class Grid:
    """Scales, and zero points where asymmetric, of a weight [N, K].

    Attributes:
        format: the weight's format.
        scale: float32, as `weight_scale` is stored: [N, 1] per channel, [1] per tensor, [N, K/g] by group,
            [N/128, K/128] by block, rounded up. Of 4-bit weights every value is one that bfloat16 has.
        zero_point: int8 like `scale`, from -8 to 7; None where symmetric. A value is (code - zero_point) * scale.
    """

    format: TensorFormat
    scale: torch.Tensor
    zero_point: torch.Tensor | None = None

    def codes(self, weight: torch.Tensor) -> torch.Tensor:
        """The codes [N, K] of a float weight [N, K]: int8 (also of 4 bits) or float8_e4m3fn; they saturate."""
        n, k = weight.shape
        return self._encode(weight.float(), self._spread(self.scale, n, k), self._zeros(n, k))

    def values(self, codes: torch.Tensor) -> torch.Tensor:
        """The float32 weight [N, K] that codes mean."""
        n, k = codes.shape
        zeros = self._zeros(n, k)
        steps = codes.float() if zeros is None else codes.float() - zeros
        return steps * self._spread(self.scale, n, k)

    def rows(self, start: int, stop: int) -> Grid:
        """The grid of rows start to stop; where blocks of rows share scales, `start` is the first of one."""
        match self.format.strategy:
            case "tensor":
                return self
            case "block":
                part = slice(start // BLOCK[0], -(-stop // BLOCK[0]))
            case _:
                part = slice(start, stop)
        return Grid(self.format, self.scale[part], None if self.zero_point is None else self.zero_point[part])

    @staticmethod
    def joined(grids: Sequence[Grid]) -> Grid:
        """The grid of all rows, of the grids of some rows each, in order."""
        zeros = [grid.zero_point for grid in grids if grid.zero_point is not None]
        return Grid(grids[0].format, torch.cat([grid.scale for grid in grids]), torch.cat(zeros) if zeros else None)

    def columns(self, n: int, k: int) -> Columns:
        """The same grid of a weight [n, k], for rounding some columns at a time."""
        return Columns(self, self._spread(self.scale, n, k).expand(n, k), self._zeros(n, k))

    def by_column(self, n: int, k: int) -> ScalesByColumn:
        """The same grid of a weight [n, k], for rounding one column after the other quickly."""
        match self.format.strategy:
            case "group":
                assert self.format.group_size is not None
                width = self.format.group_size
            case "block":
                width = BLOCK[1]
            case _:
                width = max(k, 1)

        def spread(by_part: torch.Tensor) -> torch.Tensor:
            rows = by_part.repeat_interleave(BLOCK[0], 0)[:n] if self.format.strategy == "block" else by_part
            return rows.reshape(-1, -(-k // width)).expand(n, -1).T.contiguous()

        zeros = None if self.zero_point is None else spread(self.zero_point.float())
        return ScalesByColumn(self.format, spread(self.scale), zeros, width)

    def _encode(self, values: torch.Tensor, scale: torch.Tensor, zeros: torch.Tensor | None) -> torch.Tensor:
        if self.format.num_bits == 8:
            return encode(values, scale, storage_dtype(self.format))
        steps = (values / scale).round()
        if zeros is None:
            largest = largest_code(self.format)
            return steps.clamp(-largest, largest).to(torch.int8)
        return (steps + zeros).clamp(*_asymmetric_codes(self.format)).to(torch.int8)

    def _zeros(self, n: int, k: int) -> torch.Tensor | None:
        return None if self.zero_point is None else self._spread(self.zero_point.float(), n, k)

    def _spread(self, by_part: torch.Tensor, n: int, k: int) -> torch.Tensor:
        """Scales or zero points broadcasting to [n, k]."""
        match self.format.strategy:
            case "group":
                assert self.format.group_size is not None
                return by_part.repeat_interleave(self.format.group_size, dim=1)[:, :k]
            case "block":
                return by_part.repeat_interleave(BLOCK[0], 0).repeat_interleave(BLOCK[1], 1)[:n, :k]
            case _:
                return by_part.reshape(-1, 1)


@dataclass(frozen=True)
class Columns:
    """A grid spread over a weight [N, K]: each element's own scale and zero point."""

    grid: Grid
    scale: torch.Tensor
    zero_point: torch.Tensor | None

    def round(self, values: torch.Tensor, columns: torch.Tensor | slice | int) -> torch.Tensor:
        """`values` of some columns, [N] or [N, C], rounded to the float32 values the grid has there."""
        scale = self.scale[:, columns]
        zeros = None if self.zero_point is None else self.zero_point.expand_as(self.scale)[:, columns]
        codes = self.grid._encode(values, scale, zeros).float()
        return (codes if zeros is None else codes - zeros) * scale


@dataclass(frozen=True)
class ScalesByColumn:
    """Grids of one format of weights [N, K] that stand below one another: what each row of a column is rounded with.

    Attributes:
        format: of all of them.
        scale: float32 [parts, N], one row for each part of the columns that shares scales.
        zero_point: float32 like `scale`; None where symmetric.
        width: columns of a part.
    """

    format: TensorFormat
    scale: torch.Tensor
    zero_point: torch.Tensor | None
    width: int

    @staticmethod
    def joined(several: Sequence[ScalesByColumn]) -> ScalesByColumn:
        """Those of weights of one K, of all their rows in order."""
        first = several[0]
        zeros = [each.zero_point for each in several if each.zero_point is not None]
        scale = torch.cat([each.scale for each in several], dim=1)
        return ScalesByColumn(first.format, scale, torch.cat(zeros, dim=1) if zeros else None, first.width)

    def round_(self, values: torch.Tensor, column: int) -> torch.Tensor:
        """Rounds float32 values [N] of a column, in place, to the grid's: as `Columns.round`, but for the sign of 0."""
        part = column // self.width
        scale = self.scale[part]
        values.div_(scale)
        if self.format.type == "float":
            largest = largest_code(self.format)
            return values.copy_(values.clamp_(-largest, largest).to(storage_dtype(self.format))).mul_(scale)
        values.round_()
        if self.zero_point is None:
            largest = largest_code(self.format)
            return values.clamp_(-largest, largest).mul_(scale)
        zeros = self.zero_point[part]
        return values.add_(zeros).clamp_(*_asymmetric_codes(self.format)).sub_(zeros).mul_(scale)


def grid_of(weight: torch.Tensor, tensor_format: TensorFormat) -> Grid:
    """The grid that a weight's own range asks for, without any search ("max").

    Args:
        weight: [N, K], float. Where scales go by group, K is a multiple of the group size.
        tensor_format: of the weight.

    Raises:
        ValueError: a K that groups do not fit.
    """
    low, high = _ranges(weight.float(), tensor_format)
    return grid_from_range(low, high, tensor_format)


def grid_from_range(low: torch.Tensor, high: torch.Tensor, tensor_format: TensorFormat) -> Grid:
    """The grid whose codes reach from `low` <= 0 to `high` >= 0, both shaped as `Grid.scale`.

    A symmetric grid reaches the larger of both to either side.
    """
    if not tensor_format.symmetric:
        lowest, highest = _asymmetric_codes(tensor_format)
        codes = highest - lowest
        width = (high - low) / codes
        width = torch.where(torch.isinf(width), high / codes - low / codes, width)
        scale = _stored(torch.where(width == 0, torch.ones_like(width), width), tensor_format)
        zeros = (lowest - low / scale).round().clamp(lowest, highest)
        return Grid(tensor_format, scale, zeros.to(torch.int8))
    amax = torch.maximum(-low, high)
    if tensor_format.num_bits == 8:
        return Grid(tensor_format, scale_from_amax(amax, storage_dtype(tensor_format)))
    scale = amax / largest_code(tensor_format)
    return Grid(tensor_format, _stored(torch.where(amax == 0, torch.ones_like(scale), scale), tensor_format))


def largest_code(tensor_format: TensorFormat) -> float:
    """The largest code of a symmetric format, such as 7, 127 or 448; its negative is the lowest."""
    return (
        LARGEST[storage_dtype(tensor_format)] if tensor_format.num_bits == 8 else 2 ** (tensor_format.num_bits - 1) - 1
    )


def _asymmetric_codes(tensor_format: TensorFormat) -> tuple[int, int]:
    """The lowest and the highest code of an asymmetric integer format, such as -8 and 7."""
    return -(2 ** (tensor_format.num_bits - 1)), 2 ** (tensor_format.num_bits - 1) - 1


def scale_dtype(tensor_format: TensorFormat) -> torch.dtype:
    """dtype of `weight_scale` in a file: float32 of 8-bit weights, bfloat16 of smaller, which have more of them."""
    return torch.float32 if tensor_format.num_bits == 8 else torch.bfloat16


def scale_shape(tensor_format: TensorFormat, n: int, k: int) -> tuple[int, ...]:
    """Shape of `weight_scale` of a weight [n, k]."""
    match tensor_format.strategy:
        case "tensor":
            return (1,)
        case "group":
            assert tensor_format.group_size is not None
            return (n, k // tensor_format.group_size)
        case "block":
            return (-(-n // BLOCK[0]), -(-k // BLOCK[1]))
        case _:
            return (n, 1)


def scale_count(tensor_format: TensorFormat, n: int, k: int) -> int:
    """How many scales a weight [n, k] has."""
    return math.prod(scale_shape(tensor_format, n, k))


def _stored(scale: torch.Tensor, tensor_format: TensorFormat) -> torch.Tensor:
    """float32 scales that the file's dtype holds: a weight is rounded with the scale that is stored."""
    return scale.clamp(min=SMALLEST_SCALE).to(scale_dtype(tensor_format)).float()


def _ranges(weight: torch.Tensor, tensor_format: TensorFormat) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimum (at most 0) and maximum (at least 0) of each part of the weight that shares a scale."""
    n, k = weight.shape
    match tensor_format.strategy:
        case "tensor":
            low, high = weight.min().reshape(1), weight.max().reshape(1)
        case "group":
            assert tensor_format.group_size is not None
            if k % tensor_format.group_size:
                raise ValueError(f"groups of {tensor_format.group_size} do not fit {k} columns")
            parts = weight.reshape(n, -1, tensor_format.group_size)
            low, high = parts.amin(dim=2), parts.amax(dim=2)
        case "block":
            rows, columns = scale_shape(tensor_format, n, k)
            padded = torch.nn.functional.pad(weight, (0, columns * BLOCK[1] - k, 0, rows * BLOCK[0] - n))
            parts = padded.reshape(rows, BLOCK[0], columns, BLOCK[1])
            low, high = parts.amin(dim=(1, 3)), parts.amax(dim=(1, 3))
        case _:
            low, high = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
    return low.clamp(max=0), high.clamp(min=0)
