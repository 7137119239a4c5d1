"""Scales found by their error rather than by the largest weight: clipping by search, and least squares on given codes.

A scale that reaches the largest weight of its group is coarse for all the others. The search shrinks each group's range
and keeps the best factor, as MSE observers do; with the mean square of each input as importance, the error is that of
the layer's output under uncorrelated inputs.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from quant.formats.grid import Grid, grid_from_range, grid_of, largest_code, scale_dtype, scale_shape
from quant.formats.scheme import BLOCK, TensorFormat
from quant.kernels.numerics import SMALLEST_SCALE

#: Factors on a group's range. 1 is among them, so the result is never worse than no clipping.
SHRINKS = tuple(1 - 0.025 * i for i in range(21))


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
    values = weight.float()
    count = values.new_ones(values.shape[1]).double() if importance is None else importance.double()
    best = grid_of(values, tensor_format)
    least = _error_by_part(values, best, count)
    low, high = _reach(best)
    for shrink in sorted(set(shrinks) - {1.0}, reverse=True):
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
    groups = grid.scale.shape[1]
    h = hessian.double()
    steps = replace(grid, scale=torch.ones_like(grid.scale)).values(codes).double().reshape(n, groups, -1)
    by_group = torch.zeros(n, groups, groups, k // groups, dtype=torch.float64, device=weight.device)
    by_group[:, range(groups), range(groups)] = steps
    spread = by_group.reshape(n, groups, k)
    pushed = spread @ h
    quadratic = pushed @ spread.transpose(1, 2)
    linear = (pushed @ weight.double().unsqueeze(2)).squeeze(2)
    ridge = 1e-9 * quadratic.diagonal(dim1=1, dim2=2).mean(dim=1).clamp(min=1e-30)
    eye = torch.eye(groups, dtype=torch.float64, device=weight.device)
    quadratic, linear = quadratic + ridge[:, None, None] * eye, linear + ridge[:, None] * grid.scale
    scale, unsolved = torch.linalg.solve_ex(quadratic, linear)
    fitted = replace(grid, scale=scale.clamp(min=SMALLEST_SCALE).to(scale_dtype(grid.format)).float())

    def error(tried: Grid) -> torch.Tensor:
        change = tried.values(codes).double() - weight.double()
        return ((change @ h) * change).sum(dim=1, keepdim=True)

    better = (error(fitted) < error(grid)) & (scale > 0).all(dim=1, keepdim=True) & (unsolved == 0)[:, None]
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
