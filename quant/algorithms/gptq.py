"""GPTQ (arXiv 2210.17323): rounds a weight column by column and lets the columns still open make up for each error.

The error of a layer y = W x over calibration data is tr(D H D^T), with D the change of W and H = sum x x^T. Once
column j is rounded, the best change of all later columns is known in closed form (OBS); the rows of the upper Cholesky
factor of H^-1 hold it for every j at once. Scales are found before (`Grid`), so columns may be taken in any order,
whatever groups they are in. A pruned weight is one that is rounded to 0: SparseGPT's step (arXiv 2301.00774).

`solve` and `refine` are the definition, one layer at a time; layers are solved by `quant.algorithms.elimination`, which
finds the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch

from quant.algorithms.base import Algorithm, Check, Needs, Options, Pruned, Rounded, check_damping, check_flag
from quant.algorithms.clipping import clipped_grid, refit_scales
from quant.algorithms.elimination import descend, eliminate, stacked, unstacked
from quant.algorithms.factor import DAMPING, ORDERS, Factor, Order
from quant.algorithms.hessian import damp, inverse_factor
from quant.algorithms.input_hessian import InputHessian
from quant.formats.grid import Grid, ScalesByColumn, grid_of
from quant.formats.scheme import TensorFormat
from quant.recipe_parts import Group

__all__ = ["ORDERS", "Gptq", "Order", "factor_for", "on_best_grids", "output_error", "refine", "solve"]

#: Columns whose updates are applied together, one matrix product a block.
_BLOCK = 128


def solve(
    weight: torch.Tensor,
    hessian: torch.Tensor,
    grid: Grid,
    *,
    mask: torch.Tensor | None = None,
    damping: float = DAMPING,
    order: Order = "activation",
    block: int = _BLOCK,
) -> torch.Tensor:
    """The weight on its grid, each rounding error made up for by the columns that come after it.

    Args:
        weight: [N, K], float.
        hessian: [K, K], sum x x^T of the layer's inputs in any unit; symmetric and finite.
        grid: where the values may lie.
        mask: bool [N, K], True where a weight is kept; the others become 0 and their loss is made up for too.
        damping: added to the diagonal of H, times its mean: how far calibration data is trusted. Raised tenfold until
            H is positive definite, where inputs span so few directions that rounding decides.
        order: "activation" takes the columns with the largest inputs first, when all others can still make up for
            them; "natural" goes from left to right.
        block: columns between two updates of all that follow; changes the speed and nothing else.

    Returns:
        float32 [N, K], every value one of the grid's.

    Raises:
        ValueError: a Hessian that is not finite.
    """
    by_size = torch.argsort(damp(hessian, damping).diagonal(), descending=True, stable=True)
    chosen = by_size if order == "activation" else torch.arange(weight.shape[1], device=weight.device)
    factor = inverse_factor(hessian.double()[chosen][:, chosen], damping).float()
    columns = grid.columns(*weight.shape)

    def rounded(values: torch.Tensor, column: int) -> torch.Tensor:
        at = int(chosen[column])
        on_grid = columns.round(values, at)
        return on_grid if mask is None else on_grid * mask[:, at]

    found = _eliminate(weight.float()[:, chosen], factor, rounded, block)
    return found[:, torch.argsort(chosen)]


def refine(
    weight: torch.Tensor,
    rounded: torch.Tensor,
    hessian: torch.Tensor,
    grid: Grid,
    *,
    mask: torch.Tensor | None = None,
    passes: int = 3,
    block: int = _BLOCK,
) -> torch.Tensor:
    """Rounds each column again, given all the others as they are (QuantEase, arXiv 2309.01885).

    A column's best value is known exactly and the nearest one on the grid is the best there, so tr(D H D^T) never
    grows. GPTQ cannot see later roundings when it makes the earlier ones; this can.

    Args:
        weight: [N, K], float, what to come close to.
        rounded: [N, K], a solution on the grid, such as `solve` gives.
        hessian, grid, mask: as in `solve`; without damping, an input that was never seen keeps its rounding.
        passes: how often all columns are visited.
        block: as in `solve`.

    Returns:
        float32 [N, K], every value one of the grid's.
    """
    columns = grid.columns(*weight.shape)
    found = rounded.float().clone()
    h = hessian.double()
    pull = (found.double() - weight.double()) @ h
    h, curvature = h.float(), h.diagonal().float()
    for _ in range(passes):
        before = found.clone()
        for start in range(0, h.shape[0], block):
            end = min(start + block, h.shape[0])
            inside, slope = h[start:end, start:end], pull[:, start:end].float()
            for column in range(start, end):
                if curvature[column] <= 0:
                    continue
                old = found[:, column].clone()
                new = columns.round(old - slope[:, column - start] / curvature[column], column)
                found[:, column] = new if mask is None else new * mask[:, column]
                slope += torch.outer(found[:, column] - old, inside[column - start])
            step = found[:, start:end] - before[:, start:end]
            pull += step.double() @ hessian[start:end].double()
        if torch.equal(found, before):
            break
    return found


def on_best_grids(
    weights: Sequence[torch.Tensor],
    tensor_format: TensorFormat,
    hessian: InputHessian,
    masks: Sequence[torch.Tensor | None],
    options: Options,
) -> list[tuple[Grid, torch.Tensor]]:
    """GPTQ on scales of each weight's own range, or of the best shrunk one; refined where that is asked for.

    Args:
        weights: float32 [N_i, K], of layers that read one input.
        tensor_format: of all of them.
        hessian: of the input.
        masks: of each, bool [N_i, K] of what is not pruned; None for all of them if the layers are dense.
        options: `clip`, `damping` and `refine`, as recipes have them.

    Returns:
        of each the grid, and the float32 weight [N_i, K] on it.
    """
    importance = hessian.matrix.diagonal() if options.get("clip", False) else None
    kept = [weight if mask is None else weight * mask for weight, mask in zip(weights, masks, strict=True)]
    grids = [
        grid_of(each, tensor_format) if importance is None else clipped_grid(each, tensor_format, importance)
        for each in kept
    ]
    target, sizes = stacked(weights), [len(weight) for weight in weights]
    mask = None if masks[0] is None else stacked([each for each in masks if each is not None])
    found = eliminate(target, _scales(grids, weights), factor_for(hessian, options), mask)
    if options.get("refine", False):
        grids, found = _refined(weights, target, found, hessian, grids, mask)
    return list(zip(grids, unstacked(found, sizes), strict=True))


def factor_for(hessian: InputHessian, options: Options) -> Factor:
    """The factor of an input's Hessian under the damping of a recipe."""
    return hessian.factor(options.get("damping", DAMPING))


def _refined(
    weights: Sequence[torch.Tensor],
    target: torch.Tensor,
    found: torch.Tensor,
    hessian: InputHessian,
    grids: list[Grid],
    mask: torch.Tensor | None,
) -> tuple[list[Grid], torch.Tensor]:
    """Columns rounded again, scales fitted to the codes, and columns once more on those scales; each only gains."""
    found = descend(target, found, hessian.products, _scales(grids, weights), mask)
    if grids[0].format.strategy in ("group", "channel"):
        parts = unstacked(found, [len(weight) for weight in weights])
        codes = [grid.codes(part) for grid, part in zip(grids, parts, strict=True)]
        grids = [
            refit_scales(weight, code, hessian.matrix, grid)
            for weight, code, grid in zip(weights, codes, grids, strict=True)
        ]
        found = stacked([grid.values(code) for grid, code in zip(grids, codes, strict=True)])
        found = descend(target, found, hessian.products, _scales(grids, weights), mask)
    return grids, found


def _scales(grids: Sequence[Grid], weights: Sequence[torch.Tensor]) -> ScalesByColumn:
    several = [grid.by_column(*weight.shape) for grid, weight in zip(grids, weights, strict=True)]
    return ScalesByColumn.joined(several)


def output_error(change: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """tr(D H D^T), float64: the squared error of the layer's outputs that a change D [N, K] of its weight makes.

    Not negative, though rounding may make H so in directions that no input has.
    """
    change = change.double()
    error: torch.Tensor = ((change @ hessian.double()) * change).sum()
    return error.clamp(min=0)


def _eliminate(
    weight: torch.Tensor, factor: torch.Tensor, rounded: Callable[[torch.Tensor, int], torch.Tensor], block: int
) -> torch.Tensor:
    """Rounds the columns of `weight` from left to right; changes it."""
    found = torch.empty_like(weight)
    for start in range(0, weight.shape[1], block):
        end = min(start + block, weight.shape[1])
        errors = torch.empty_like(weight[:, start:end])
        for column in range(start, end):
            found[:, column] = rounded(weight[:, column], column)
            error = (weight[:, column] - found[:, column]) / factor[column, column]
            weight[:, column:end] -= torch.outer(error, factor[column, column:end])
            errors[:, column - start] = error
        weight[:, end:] -= errors @ factor[start:end, end:]
    return found


#: Options of every algorithm that ends in GPTQ.
OPTIONS: dict[str, Check] = {"clip": check_flag, "damping": check_damping, "refine": check_flag}


class Gptq(Algorithm):
    """Rounds a weight, dense or pruned, by GPTQ."""

    name = "gptq"
    options: ClassVar[Mapping[str, Check]] = OPTIONS
    rounds = True

    def needs(self, group: Group) -> Needs:
        return Needs(hessian=True)

    def round_together(
        self,
        layers: Sequence[Pruned],
        tensor_format: TensorFormat,
        hessian: InputHessian | None,
        options: Options,
    ) -> list[Rounded]:
        assert hessian is not None
        # Where a method only chose a mask, and has made up for nothing, GPTQ comes close to the whole weight.
        targets = [each.weight if each.compensated else each.original for each in layers]
        made = on_best_grids(targets, tensor_format, hessian, [each.mask for each in layers], options)
        return [Rounded(found, grid, notes=factor_for(hessian, options).notes) for grid, found in made]
