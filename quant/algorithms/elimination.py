"""GPTQ and its refinement for all rows of many layers at once: what `gptq.solve` and `gptq.refine` define, quickly.

The weights of layers that read one input lie side by side in one tensor [K, N], so a step over a column is six
operations on one piece of memory, however many layers there are. Steps are taken in strips within blocks: a column
reaches only the rest of its strip, a strip the rest of its block by a matmul, and a block all others by a larger one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from quant.algorithms.factor import Factor
from quant.formats.grid import ScalesByColumn

#: Columns of a block and of a strip.
_BLOCK, _STRIP = 256, 16


def stacked(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Weights [N_i, K] as one [K, N], contiguous."""
    return torch.cat([weight.T for weight in weights], dim=1)


def unstacked(found: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
    """The weights [N_i, K] of one [K, N], each with memory of its own."""
    return [part.T.contiguous() for part in torch.split(found, list(sizes), dim=1)]


def eliminate(
    target: torch.Tensor, scales: ScalesByColumn, factor: Factor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """GPTQ: rounds one column after the other, each to what is best given those rounded before.

    Args:
        target: float32 [K, N], what to come close to, of any number of layers that read one input.
        scales: where the values may lie.
        factor: of the Hessian.
        mask: bool [K, N], True where a weight is kept; None keeps all.

    Returns:
        float32 [K, N], every value one of the grid's.
    """
    lower, order = factor.lower, factor.order.tolist()
    target = target[factor.order]
    kept = None if mask is None else mask[factor.order]
    found = target.clone()  # first what would be best, then what it is rounded to
    for end in range(len(order), 0, -_BLOCK):
        start = max(end - _BLOCK, 0)
        change = torch.empty_like(found[start:end])
        for top in range(end, start, -_STRIP):
            bottom = max(top - _STRIP, start)
            for row in range(top - 1, bottom - 1, -1):
                rounded = scales.round_(found[row], order[row])
                if kept is not None:
                    rounded.mul_(kept[row])
                step = torch.sub(target[row], rounded, out=change[row - start])
                if row > bottom:
                    found[bottom:row].addcmul_(lower[row, bottom:row, None], step)
            found[start:bottom].addmm_(lower[bottom:top, start:bottom].T, change[bottom - start : top - start])
        found[:start].addmm_(lower[start:end, :start].T, change)
    natural = torch.empty_like(found)
    natural[factor.order] = found
    return natural


def descend(
    target: torch.Tensor,
    found: torch.Tensor,
    hessian: torch.Tensor,
    scales: ScalesByColumn,
    mask: torch.Tensor | None = None,
    passes: int = 3,
) -> torch.Tensor:
    """Coordinate descent: rounds each column again, given all the others as they are. No row gets worse.

    Args:
        target, scales, mask: as in `eliminate`.
        found: float32 [K, N], a solution on the grid.
        hessian: [K, K] in the precision of its products, without damping: an input never seen keeps its rounding.
        passes: how often all columns are visited, at most.

    Returns:
        float32 [K, N], every value one of the grid's.
    """
    first, found = found, found.clone()
    pull = hessian @ (found - target).to(hessian.dtype)
    error = _errors(found, target, pull)
    diagonal = hessian.diagonal()
    seen = (diagonal > 0).tolist()
    for _ in range(passes):
        before = found.clone()
        for start in range(0, len(seen), _BLOCK):
            end = min(start + _BLOCK, len(seen))
            slope = pull[start:end].clone()
            step = torch.zeros_like(slope)
            for bottom in range(start, end, _STRIP):
                top = min(bottom + _STRIP, end)
                for row in range(bottom, top):
                    if not seen[row]:
                        continue
                    best = found[row] - slope[row - start] / diagonal[row]
                    rounded = scales.round_(best.to(found.dtype), row)
                    if mask is not None:
                        rounded.mul_(mask[row])
                    moved = torch.sub(rounded, found[row], out=step[row - start])
                    found[row] = rounded
                    slope[row - start + 1 : top - start].addcmul_(hessian[row + 1 : top, row, None], moved)
                slope[top - start :].addmm_(hessian[top:end, bottom:top], step[bottom - start : top - start])
            pull.addmm_(hessian[:, start:end], step)
        if torch.equal(found, before):
            break
    return torch.where(_errors(found, target, pull) <= error, found, first)


def _errors(found: torch.Tensor, target: torch.Tensor, pull: torch.Tensor) -> torch.Tensor:
    """The squared error of each row's outputs, float64 [N], by H D of its change D."""
    total = torch.zeros(found.shape[1], dtype=torch.float64, device=found.device)
    for rows in range(0, len(found), _BLOCK):
        part = slice(rows, rows + _BLOCK)
        total += ((found[part] - target[part]).double() * pull[part]).sum(dim=0)
    return total
