"""One layer's weight under its recipe: which of it stays, and which codes stand for that.

In this order, each step knowing what the one before did: a 2:4 mask, what the survivors become, a low-rank branch,
scales, and codes. With a Hessian each step makes up for its own losses; without one, the weight alone decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from quant.algorithms import gptq, low_rank, sparse24
from quant.algorithms.clipping import clipped_grid, refit_scales
from quant.formats.grid import Grid, grid_of
from quant.formats.scheme import TensorFormat
from quant.formats.tensors import LowRank
from quant.recipe_parts import Group

ALGORITHMS = ("gptq", "svdquant", "mse")


@dataclass(frozen=True)
class Compressed:
    """What became of a weight.

    Attributes:
        weight: float32 [N, K] to be packed; on `grid` where there is one.
        grid: scales that an algorithm chose; None leaves them to the weight's own range.
        branch: what is added to the output in high precision.
        notes: `output_error`, relative to the output's own size, where a Hessian tells.
    """

    weight: torch.Tensor
    grid: Grid | None = None
    branch: LowRank | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def cpu(self) -> Compressed:
        """The same on the CPU."""
        grid, branch = self.grid, self.branch
        if grid is not None:
            zeros = grid.zero_point
            grid = Grid(grid.form, grid.scale.cpu(), None if zeros is None else zeros.cpu())
        if branch is not None:
            branch = LowRank(branch.up.cpu(), branch.down.cpu())
        return Compressed(self.weight.cpu(), grid, branch, self.notes)


def round_smoothed(
    weight: torch.Tensor, group: Group, hessian: torch.Tensor, pre_quant_scale: torch.Tensor | None
) -> Compressed:
    """A smoothed weight rounded by GPTQ: under the Hessian of the inputs that it meets, which are smoothed too.

    Args:
        weight: [N, K], float, as the original's input reads it.
        group: of a recipe that asks for it.
        hessian: [K, K], sum x x^T of the original's inputs.
        pre_quant_scale: float32 [K], or None where smoothing does not help.

    Returns:
        the grid is that of the divided weight, and the weight is the undivided one, as `packing` takes them.
    """
    factor = weight.new_ones(weight.shape[1]).float() if pre_quant_scale is None else pre_quant_scale.float()
    wide = factor.double()
    options = {} if group.algorithm is None else dict(group.algorithm.options)
    assert group.scheme.weights is not None
    grid, found = _rounded(
        weight.float() / factor, group.scheme.weights, hessian * torch.outer(wide, wide), None, options
    )
    return Compressed(found * factor, grid)


def compresses(group: Group) -> bool:
    """Does `compress` have something to do for this group's weights, beyond rounding them to nearest?"""
    return group.sparsity is not None or (group.algorithm is not None and group.algorithm.name in ALGORITHMS)


def compress(weight: torch.Tensor, group: Group, hessian: torch.Tensor | None) -> Compressed:
    """A weight [N, K] under the algorithm and the sparsity of a group.

    Args:
        weight: [N, K], float.
        group: of a recipe that `check_algorithms` has passed.
        hessian: [K, K], sum x x^T of the layer's inputs, for what `needs_of` says needs one.
    """
    target = weight.float()
    options = {} if group.algorithm is None else dict(group.algorithm.options)
    mask, pruned = _pruned(target, group, hessian)
    name = None if group.algorithm is None else group.algorithm.name
    form = group.scheme.weights
    branch = None
    if name == "gptq":
        assert form is not None and hessian is not None
        grid, found = _rounded(_to_round(target, pruned, group), form, hessian, mask, options)
    elif name == "svdquant":
        assert form is not None and hessian is not None
        grid, found, branch = _with_branch(pruned, form, hessian, mask, options)
    elif name == "mse":
        assert form is not None
        grid = clipped_grid(pruned, form, None if hessian is None else hessian.diagonal())
        found = grid.values(grid.codes(pruned))
    else:
        grid, found = None, pruned
    if mask is not None:
        found = found * mask
    return Compressed(found, grid, branch, _notes(target, found, branch, form if grid is None else None, hessian))


def _pruned(
    weight: torch.Tensor, group: Group, hessian: torch.Tensor | None
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """The mask, None for a dense layer, and the weight with its survivors compensated."""
    if group.sparsity is None:
        return None, weight
    method = group.sparsity.method
    if method == "magnitude":
        mask = sparse24.magnitude_mask(weight)
        return mask, weight * mask
    assert hessian is not None
    if method == "wanda":
        mask = sparse24.wanda_mask(weight, hessian.diagonal().float())
        return mask, weight * mask
    if method == "sparsegpt":
        mask, pruned = sparse24.sparsegpt(weight, hessian)
        return mask, pruned.float()
    return sparse24.prune(weight, hessian)


def _to_round(weight: torch.Tensor, pruned: torch.Tensor, group: Group) -> torch.Tensor:
    """What GPTQ comes close to: the whole weight where a method only chose a mask, and has made up for nothing."""
    only_chosen = group.sparsity is not None and group.sparsity.method in ("magnitude", "wanda")
    return weight if only_chosen else pruned


def _rounded(
    weight: torch.Tensor,
    form: TensorFormat,
    hessian: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict[str, Any],
) -> tuple[Grid, torch.Tensor]:
    """GPTQ on scales of the weight's own range, or of the best shrunk one; refined where that is asked for."""
    clip = options.get("clip", False)
    kept = weight if mask is None else weight * mask
    grid = clipped_grid(kept, form, hessian.diagonal()) if clip else grid_of(kept, form)
    found = gptq.solve(weight, hessian, grid, mask=mask, damping=options.get("damping", 0.01))
    return _refined(weight, found, hessian, grid, mask) if options.get("refine", False) else (grid, found)


def _refined(
    weight: torch.Tensor, found: torch.Tensor, hessian: torch.Tensor, grid: Grid, mask: torch.Tensor | None
) -> tuple[Grid, torch.Tensor]:
    """Columns rounded again, scales fitted to the codes, and columns once more on those scales; each only gains."""
    found = gptq.refine(weight, found, hessian, grid, mask=mask)
    if grid.form.strategy in ("group", "channel"):
        codes = grid.codes(found)
        grid = refit_scales(weight, codes, hessian, grid)
        found = gptq.refine(weight, grid.values(codes), hessian, grid, mask=mask)
    return grid, found


def _with_branch(
    weight: torch.Tensor,
    form: TensorFormat,
    hessian: torch.Tensor,
    mask: torch.Tensor | None,
    options: dict[str, Any],
) -> tuple[Grid, torch.Tensor, LowRank]:
    """SVDQuant, with GPTQ for what the branch leaves."""
    _, up, down = low_rank.alternate(
        weight, hessian, options.get("rank", 32), lambda rest: _rounded(rest, form, hessian, mask, options)[1]
    )
    # One round more from the best branch: `alternate` returns no grid.
    rest = weight - up @ down
    grid, found = _rounded(rest, form, hessian, mask, options)
    up, down = low_rank.branch(weight - found, hessian, options.get("rank", 32))
    return grid, found, LowRank(up, down)


def _notes(
    target: torch.Tensor,
    found: torch.Tensor,
    branch: LowRank | None,
    form: TensorFormat | None,
    hessian: torch.Tensor | None,
) -> dict[str, Any]:
    if hessian is None:
        return {}
    if form is not None:  # rounded to nearest when it is packed
        grid = grid_of(found, form)
        found = grid.values(grid.codes(found))
    stored = found if branch is None else found + branch.up @ branch.down
    power = float(gptq.output_error(target, hessian))
    return {"output_error": (float(gptq.output_error(stored - target, hessian)) / power) ** 0.5 if power else 0.0}
