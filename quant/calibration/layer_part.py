"""One quantized layer on its way into a checkpoint: its weight is read once, some rows at a time.

Codes go out as they are made; scales, which are small, when all rows are done. Where nothing has to be solved, rounded
to a given grid or divided by factors, a compiled loop does to the rows what torch does below, bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch

from quant.algorithms.table import algorithm_of, needs_of, options_of, pruning_of
from quant.calibration.layer_plan import Planned
from quant.calibration.solution import Solution
from quant.checkpoint.shards import FileTensor, Part, Put, TensorPlan
from quant.errors import ModelError
from quant.formats.base import Tensors
from quant.formats.grid import Grid, grid_from_range
from quant.formats.table import format_of
from quant.formats.tensors import (
    LowRank,
    RelativeError,
    by_column,
    coded_weight,
    own_grid,
    small_tensors,
    tensor_layout,
    unpack_linear,
)
from quant.kernels.cpu import encode_rows
from quant.kernels.cpu.encode_rows import Encoding


def layer_part(weight: TensorPlan, layer: Planned, solution: Solution, errors: dict[str, float]) -> Part:
    """The tensors of a quantized layer.

    Args:
        weight: the original as the model has it.
        layer: what becomes of it.
        solution: what the algorithms found.
        errors: gets the layer's relative weight error when the tensors are made.
    """
    work = _LayerRows(weight, layer, solution)
    tensors = {
        f"{layer.name}.{leaf}": FileTensor(dtype or weight.dtype, shape)
        for leaf, (dtype, shape) in tensor_layout(work.layer_format, *layer.shape).items()
    }

    def make(put: Put) -> None:
        work.write(lambda leaf, tensor: put(f"{layer.name}.{leaf}", tensor), partial(errors.__setitem__, layer.name))

    return Part(tensors, make)


def pack_layer(weight: torch.Tensor, layer: Planned, solution: Solution) -> tuple[Tensors, float]:
    """A quantized layer's tensors by their names in a checkpoint, and its relative weight error.

    Args:
        weight: the original as the model has it, on any device; the tensors are on the CPU.
        layer: what becomes of it.
        solution: what the algorithms found.

    Raises:
        ModelError: names the layer, where its weights cannot be stored in its format.
    """
    made: dict[str, list[torch.Tensor]] = {}
    plan = TensorPlan(weight.dtype, tuple(weight.shape), lambda start, stop: weight[start:stop])
    work = _LayerRows(plan, layer, solution)
    errors: list[float] = []
    work.write(lambda leaf, tensor: made.setdefault(leaf, []).append(tensor), errors.append)
    layout = tensor_layout(work.layer_format, *layer.shape)
    return {leaf: _joined(made[leaf], shape) for leaf, (_, shape) in layout.items()}, errors[0]


class _LayerRows:
    """A layer, and how its rows are made."""

    def __init__(self, weight: TensorPlan, layer: Planned, solution: Solution) -> None:
        self._weight, self._layer, self._solution = weight, layer, solution
        self.layer_format = solution.layer_format(layer.layer_format)
        self._format = format_of(self.layer_format)
        self._around = solution.around(weight.dtype)

    def write(self, put: Put, report: Callable[[float], None]) -> None:
        """Gives all tensors by their names in the layer to `put`, and the relative weight error to `report`.

        The error is known before the last tensor is put: a file may be finished with that.

        Raises:
            ModelError: names the layer, where its weights cannot be stored in its format.
        """
        whole, encoding = self._whole_grid(), self._encoding()
        error, grids = RelativeError(), []
        for start, weight in self._pieces(whole_at_once=self._is_one_piece()):
            rows = self._layer.layer_kind.matrix(weight)
            encoded = None if encoding is None else self._encoded(rows, encoding, whole, error)
            if encoded is None:  # the compiled loop itself looks whether all are finite
                self._weight.check(weight, start)
            codes, grid = encoded or self._coded(rows, start, whole, error)
            put(self._format.main, codes)
            grids.append(grid)
        if not math.isfinite(error.value):
            raise self._too_large()
        parts = [grid for grid in grids if grid is not None]
        grid = whole or (Grid.joined(parts) if parts else None)
        report(error.value)
        for leaf, tensor in self._small(grid).items():
            put(leaf, tensor)

    def _pieces(self, *, whole_at_once: bool = False) -> Iterator[tuple[int, torch.Tensor]]:
        """The original a few rows at a time, each stretch with the number of its first."""
        by_rows = self._layer.layer_kind.by_rows and not whole_at_once
        for start, stop in self._weight.pieces() if by_rows else [(0, self._weight.shape[0])]:
            yield start, self._weight.rows(start, stop).detach()

    def _rows(self) -> Iterator[tuple[int, torch.Tensor]]:
        """The same as rows [R, K] of the matrix."""
        for start, weight in self._pieces():
            self._weight.check(weight, start)
            yield start, self._layer.layer_kind.matrix(weight)

    def _is_one_piece(self) -> bool:
        """Whether an algorithm without data chooses one scale for all rows, which then have to be seen at once."""
        group, weights = self._layer.group, self.layer_format.scheme.weights
        return (
            weights is not None
            and weights.strategy == "tensor"
            and self._solution.grid is None
            and self._solution.weight is None
            and algorithm_of(group).rounds
        )

    def _whole_grid(self) -> Grid | None:
        """The scales of all rows, where they are known before any is rounded: given, or one that all rows share."""
        weights = self.layer_format.scheme.weights
        if self._solution.grid is not None or weights is None or weights.strategy != "tensor" or self._is_one_piece():
            return self._solution.grid
        low, high = torch.zeros(1), torch.zeros(1)
        for start, rows in self._rows():
            rounded = self._solution.rounded(rows, self._layer.group, start).weight.float()
            if self._solution.pre_quant_scale is not None:
                rounded = rounded / by_column(self._solution.pre_quant_scale, rounded.shape[1])
            low, high = torch.minimum(low, rounded.min()), torch.maximum(high, rounded.max())
        return grid_from_range(low, high, weights)

    def _encoding(self) -> Encoding | None:
        """How the compiled loop does all that becomes of a row; None where it does not, or is not here."""
        solution, group = self._solution, self._layer.group
        encoding, pruning = self._format.encoding(), pruning_of(group)
        shrinks = algorithm_of(group).shrinks(options_of(group))
        solved = (solution.weight, solution.grid, solution.pre_quant_scale, solution.low_rank)
        if encoding is None or shrinks is None or any(each is not None for each in solved):
            return None
        if self._is_one_piece() or (shrinks and encoding.part_rows > 1) or needs_of(group).hessian:
            return None
        if pruning is not None and not pruning.by_size:
            return None
        return None if encode_rows.unavailable() else replace(encoding, shrinks=shrinks)

    def _encoded(
        self, rows: torch.Tensor, encoding: Encoding, whole: Grid | None, error: RelativeError
    ) -> tuple[torch.Tensor, Grid] | None:
        """Codes of some rows and their scales by the compiled loop; None for rows that it does not take."""
        weights = self.layer_format.scheme.weights
        if rows.dtype == torch.float16:
            rows = rows.float()
        if weights is None or rows.device.type != "cpu" or rows.dtype not in encode_rows.SOURCES:
            return None
        given = None if whole is None else whole.scale.expand(len(rows), 1).contiguous()
        made = encode_rows.encode_rows(rows.contiguous(), encoding, given)
        if made is None:
            return None
        error.add_squares(float(made.lost.sum()), float(made.power.sum()))
        dtype = self._format.layout(*self._layer.shape)[self._format.main].dtype
        codes = made.packed.view(dtype or torch.uint8)
        return codes, whole or Grid(weights, made.scale, None if weights.symmetric else made.zero.to(torch.int8))

    def _coded(
        self, rows: torch.Tensor, start: int, whole: Grid | None, error: RelativeError
    ) -> tuple[torch.Tensor, Grid | None]:
        """The same by torch, whatever is to be done."""
        solution, stop = self._solution, start + len(rows)
        rounded = solution.rounded(rows, self._layer.group, start)
        grid = rounded.grid if whole is None else whole.rows(start, stop)
        if grid is None:
            grid = own_grid(rounded.weight, self.layer_format, solution.pre_quant_scale)
        small: Tensors = dict(self._format.scales(grid, *rows.shape))
        if solution.pre_quant_scale is not None:
            small["pre_quant_scale"] = solution.pre_quant_scale.float()
        branch: LowRank | None = self._around["low_rank"]
        if branch is not None:
            small |= {"low_rank_up": branch.up[start:stop], "low_rank_down": branch.down}
        packed = rounded.weight.to(rows.dtype) if self.layer_format.scheme.weights is None else rounded.weight
        codes = coded_weight(packed, self.layer_format, small)
        error.add(rows.cpu(), unpack_linear({self._format.main: codes, **small}, self.layer_format))
        return codes, grid

    def _small(self, grid: Grid | None) -> Mapping[str, torch.Tensor]:
        """All tensors but the codes."""
        return small_tensors(
            torch.empty(self._layer.shape, device="meta"), self.layer_format, grid=grid, **self._around
        )

    def _too_large(self) -> ModelError:
        reach = max(float(rows.double().abs().max()) for _, rows in self._rows())
        return ModelError(
            f"layer '{self._layer.name}': its weights reach {reach:.3g}; as {self.layer_format.label} some would not "
            "be finite; keep it with 'ignore'"
        )


def _joined(pieces: list[torch.Tensor], shape: tuple[int, ...]) -> torch.Tensor:
    """Pieces of a tensor's rows as the tensor; as bytes, for torch joins FP8 tensors on some devices only."""
    if len(pieces) == 1:
        return pieces[0].reshape(shape)
    dtype = pieces[0].dtype
    return torch.cat([piece.contiguous().view(torch.uint8) for piece in pieces]).view(dtype).reshape(shape)
