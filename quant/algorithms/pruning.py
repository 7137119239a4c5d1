"""The methods by which a recipe's 2:4 sparsity chooses zeros: one row each of one table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from quant.algorithms import sparse24
from quant.algorithms.base import Needs, Pruned
from quant.algorithms.hessian import inverse_factor
from quant.algorithms.input_hessian import InputHessian


@dataclass(frozen=True)
class Pruning:
    """One method.

    Attributes:
        name: as recipes spell it.
        reads: the statistics it reads.
        prune: weight float32 [N, K] and Hessian, None where `reads` has none, to the mask bool [N, K] and, where
            survivors make up for what is pruned, the weight that they are.
        by_size: is that the two largest of every four, and nothing else?
    """

    name: str
    reads: Needs
    prune: Callable[[torch.Tensor, InputHessian | None], tuple[torch.Tensor, torch.Tensor | None]]
    by_size: bool = False

    def __call__(self, weight: torch.Tensor, hessian: InputHessian | None) -> Pruned:
        """Return a float32 weight [N, K] pruned; `hessian` is None where the method reads none."""
        mask, survivors = self.prune(weight, hessian)
        return Pruned(weight, weight * mask if survivors is None else survivors, mask, survivors is not None)


def _magnitude(weight: torch.Tensor, hessian: InputHessian | None) -> tuple[torch.Tensor, None]:
    return sparse24.magnitude_mask(weight), None


def _wanda(weight: torch.Tensor, hessian: InputHessian | None) -> tuple[torch.Tensor, None]:
    assert hessian is not None
    return sparse24.wanda_mask(weight, hessian.matrix.diagonal().float()), None


def _sparsegpt(weight: torch.Tensor, hessian: InputHessian | None) -> tuple[torch.Tensor, torch.Tensor]:
    assert hessian is not None
    mask, survivors = sparse24.sparsegpt(
        weight, hessian.matrix, factor=hessian.once(inverse_factor, sparse24.SPARSEGPT_DAMPING)
    )
    return mask, survivors.float()


def _search(weight: torch.Tensor, hessian: InputHessian | None) -> tuple[torch.Tensor, torch.Tensor]:
    assert hessian is not None
    return sparse24.prune(weight, hessian.matrix, basis=hessian.once(sparse24.basis_of, sparse24.SEARCH_DAMPING))


PRUNINGS = (
    Pruning("magnitude", Needs(), _magnitude, by_size=True),
    Pruning("wanda", Needs(hessian=True), _wanda),
    Pruning("sparsegpt", Needs(hessian=True), _sparsegpt),
    Pruning("search", Needs(hessian=True), _search),
)
