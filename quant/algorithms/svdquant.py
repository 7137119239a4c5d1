"""SVDQuant (arXiv 2411.05007): a low-rank branch takes what a rounded weight lacks, and GPTQ rounds the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch

from quant.algorithms.base import Algorithm, Check, Needs, Options, Pruned, Rounded
from quant.algorithms.gptq import OPTIONS, factor_for, on_best_grids
from quant.algorithms.hessian import lower_factor
from quant.algorithms.input_hessian import InputHessian
from quant.algorithms.low_rank import BRANCH_DAMPING, alternate, branch
from quant.fields import check_count
from quant.formats.grid import Grid
from quant.formats.scheme import TensorFormat
from quant.formats.tensors import LowRank
from quant.recipe_parts import Group

RANK = 32


def _check_rank(value: object, where: str) -> None:
    check_count(value, 1, where)


class SvdQuant(Algorithm):
    """Finds branch and codes in turns, each made for what the other leaves."""

    name = "svdquant"
    options: ClassVar[Mapping[str, Check]] = {"rank": _check_rank, **OPTIONS}
    rounds = True
    branches = True

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
        return [_with_branch(each, tensor_format, hessian, options) for each in layers]


def _with_branch(layer: Pruned, tensor_format: TensorFormat, hessian: InputHessian, options: Options) -> Rounded:
    rank, weight, root = options.get("rank", RANK), layer.weight, hessian.once(lower_factor, BRANCH_DAMPING)

    def on_best_grid(rest: torch.Tensor) -> tuple[Grid, torch.Tensor]:
        return on_best_grids([rest], tensor_format, hessian, [layer.mask], options)[0]

    _, up, down = alternate(weight, hessian.matrix, rank, lambda rest: on_best_grid(rest)[1], root=root)
    # One round more from the best branch: `alternate` returns no grid.
    grid, found = on_best_grid(weight - up @ down)
    added = LowRank(*branch(weight - found, hessian.matrix, rank, root=root))
    return Rounded(found, grid, added, factor_for(hessian, options).notes)
