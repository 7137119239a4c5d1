"""Scales found by their error rather than by the largest weight: clipping by search, and least squares on given codes.

A scale that reaches the largest weight of its group is coarse for all the others. The search shrinks each group's range
and keeps the best factor, as MSE observers do; with the mean square of each input as importance, the error is that of
the layer's output under uncorrelated inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from quant.formats.grid import Grid, grid_from_range, grid_of, largest_code, scale_dtype, scale_shape
from quant.formats.scheme import BLOCK, TensorFormat
from quant.kernels.numerics import SMALLEST_SCALE

#: Factors on a group's range. 1 is among them, so the result is never worse than no clipping.
SHRINKS = tuple(1 - 0.025 * i for i in range(21))

#: Elements of a weight that are worked on at a time: what a CPU's cache holds of them in float64, and what memory does.
_CACHED, _AT_ONCE = 1 << 16, 1 << 25


def clipped_grid(
    weight: torch.Tensor,
    tensor_format: TensorFormat,
    importance: torch.Tensor | None = None,
    shrinks: tuple[float, ...] = SHRINKS,
) -> Grid:
    """The grid whose ranges, each shrunk by its own factor, round the weight with the least squared error.

    Args:
        weight: [N, K], float.
        tensor_format: of the weight; any strategy, symmetric or not.
        importance: [K], not negative: what a squared error of each column counts, such as the diagonal of sum x x^T.
            None counts all alike.
        shrinks: the factors tried; 1 is always tried.

    Returns:
        a grid, of each part that shares a scale the best one; of equal ones the widest.
    """
    count = weight.new_ones(weight.shape[1]).double() if importance is None else importance.double()
    tried = sorted(set(shrinks) - {1.0}, reverse=True)
    rows = _rows_at_once(weight, tensor_format)
    return Grid.joined([_clipped(part.float(), tensor_format, count, tried) for part in torch.split(weight, rows)])


def _rows_at_once(weight: torch.Tensor, tensor_format: TensorFormat) -> int:
    """Rows whose scales are searched together: as few as a processor's cache holds, many for a device without one."""
    if tensor_format.strategy == "tensor":
        return max(len(weight), 1)
    elements = _CACHED if weight.device.type == "cpu" else _AT_ONCE
    together = BLOCK[0] if tensor_format.strategy == "block" else 1
    return max(elements // max(weight.shape[1], 1) // together, 1) * together


def _clipped(values: torch.Tensor, tensor_format: TensorFormat, count: torch.Tensor, shrinks: Sequence[float]) -> Grid:
    """The best grid of some rows; factors are tried in the order given, after 1."""
    best = grid_of(values, tensor_format)
    least = _error_by_part(values, best, count)
    low, high = _reach(best)
    for shrink in shrinks:
        tried = grid_from_range(low * shrink, high * shrink, tensor_format)
        error = _error_by_part(values, tried, count)
        best, least = _where(error < least, tried, best), torch.minimum(error, least)
    return best


def refit_scales(weight: torch.Tensor, codes: torch.Tensor, hessian: torch.Tensor, grid: Grid) -> Grid:
    """The scales that suit given codes best: for each row, least squares over its groups (QuantEase, arXiv 2309.01885).

    A row is the sum over groups g of s_g (code - zero_point)_g, so tr(D H D^T) is a quadratic of its scales. A row
    keeps its scales where the new ones, rounded as they are stored, would not be better.

    Args:
        weight: [N, K], float, what to come close to.
        codes: int8 [N, K] of `grid`.
        hessian: [K, K], sum x x^T.
        grid: scales by group or channel.

    Returns:
        a grid with the same zero points.

    Raises:
        ValueError: scales of which some belong to several rows.
    """
    n, k = weight.shape
    if grid.format.strategy not in ("group", "channel"):
        raise ValueError(f"scales by {grid.format.strategy} belong to several rows")
    h = hessian.double()
    rows = max(_AT_ONCE // max(k, 1), 1)
    parts = [
        _refitted(weight[start : start + rows], codes[start : start + rows], h, grid.rows(start, min(start + rows, n)))
        for start in range(0, n, rows)
    ]
    return Grid.joined(parts)


def _refitted(weight: torch.Tensor, codes: torch.Tensor, h: torch.Tensor, grid: Grid) -> Grid:
    """As `refit_scales`, of some rows: the change of the scales that takes most off the error that is left."""
    n, groups = grid.scale.shape
    steps = replace(grid, scale=torch.ones_like(grid.scale)).values(codes).double()
    left = (weight.double() - grid.values(codes)) @ h
    linear = (left * steps).reshape(n, groups, -1).sum(dim=2)
    size = weight.shape[1] // groups
    quadratic = linear.new_empty(n, groups, groups)
    for group in range(groups):
        # One group's columns against those of itself and of the groups before it: H is symmetric.
        mine = slice(group * size, (group + 1) * size)
        pushed = (steps[:, mine] @ h[mine, : mine.stop]) * steps[:, : mine.stop]
        quadratic[:, group, : group + 1] = pushed.reshape(n, group + 1, size).sum(dim=2)
        quadratic[:, :group, group] = quadratic[:, group, :group]
    ridge = 1e-9 * quadratic.diagonal(dim1=1, dim2=2).mean(dim=1).clamp(min=1e-30)
    ridged = quadratic + ridge[:, None, None] * torch.eye(groups, dtype=torch.float64, device=weight.device)
    change, unsolved = torch.linalg.solve_ex(ridged, linear)
    scale = grid.scale + change
    fitted = replace(grid, scale=scale.clamp(min=SMALLEST_SCALE).to(scale_dtype(grid.format)).float())
    # What the scales as they are stored change of the error.
    change = fitted.scale.double() - grid.scale
    gain = ((quadratic @ change.unsqueeze(2)).squeeze(2) - 2 * linear).mul(change).sum(dim=1, keepdim=True)
    better = (gain < 0) & (scale > 0).all(dim=1, keepdim=True) & (unsolved == 0)[:, None]
    return _where(better.expand_as(grid.scale), fitted, grid)


def _where(condition: torch.Tensor, first: Grid, second: Grid) -> Grid:
    zeros = first.zero_point
    if zeros is not None and second.zero_point is not None:
        zeros = torch.where(condition, zeros, second.zero_point)
    return Grid(first.format, torch.where(condition, first.scale, second.scale), zeros)


def _reach(grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest and the largest value of each part."""
    if grid.zero_point is None:
        high = grid.scale * largest_code(grid.format)
        return -high, high
    return (-8 - grid.zero_point.float()) * grid.scale, (7 - grid.zero_point.float()) * grid.scale


def _error_by_part(weight: torch.Tensor, grid: Grid, importance: torch.Tensor) -> torch.Tensor:
    """The weighted squared error of rounding to nearest, shaped as `grid.scale`."""
    n, k = weight.shape
    # In float32 the squares of large or small weights would all be inf or 0.
    error = (grid.values(grid.codes(weight)) - weight).double().square() * importance
    tensor_format = grid.format
    match tensor_format.strategy:
        case "tensor":
            return error.sum().reshape(1)
        case "block":
            rows, columns = scale_shape(tensor_format, n, k)
            padded = torch.nn.functional.pad(error, (0, columns * BLOCK[1] - k, 0, rows * BLOCK[0] - n))
            return padded.reshape(rows, BLOCK[0], columns, BLOCK[1]).sum(dim=(1, 3))
        case _:
            return _sum_by_halves(error.reshape(n, grid.scale.shape[1], -1))


def _sum_by_halves(parts: torch.Tensor) -> torch.Tensor:
    """The sum over the last dimension in an order that is the same on every machine, as the compiled loop adds."""
    size = 1 << (parts.shape[-1] - 1).bit_length()
    parts = torch.nn.functional.pad(parts, (0, size - parts.shape[-1]))
    while parts.shape[-1] > 1:
        first, second = parts.chunk(2, dim=-1)
        parts = first + second
    return parts.squeeze(-1)
