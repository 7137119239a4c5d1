"""SVDQuant (arXiv 2411.05007): a low-rank branch takes what a rounded weight lacks, and GPTQ rounds the rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch

from quant.algorithms.base import Algorithm, Check, Needs, Options, Pruned, Rounded
from quant.algorithms.gptq import OPTIONS, on_best_grid
from quant.algorithms.low_rank import alternate, branch
from quant.fields import check_count
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

    def round(
        self, pruned: Pruned, tensor_format: TensorFormat, hessian: torch.Tensor | None, options: Options
    ) -> Rounded:
        assert hessian is not None
        rank, weight = options.get("rank", RANK), pruned.weight
        _, up, down = alternate(
            weight, hessian, rank, lambda rest: on_best_grid(rest, tensor_format, hessian, pruned.mask, options)[1]
        )
        # One round more from the best branch: `alternate` returns no grid.
        grid, found = on_best_grid(weight - up @ down, tensor_format, hessian, pruned.mask, options)
        return Rounded(found, grid, LowRank(*branch(weight - found, hessian, rank)))
