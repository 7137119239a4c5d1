"""The Hessian of one input, and what algorithms find from it: each once, for all layers that read that input."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

import torch

from quant.algorithms.factor import DAMPING, Factor, Order, factorize
from quant.algorithms.hessian import in_unit

Found = TypeVar("Found")

#: Columns that an error is summed over at a time.
_BLOCK = 256


class InputHessian:
    """H = sum x x^T of an input, with what was found from it so far.

    Attributes:
        matrix: float64 [K, K], in the unit of `in_unit`: squares of its numbers fit float32.
    """

    def __init__(self, hessian: torch.Tensor) -> None:
        """Takes [K, K], symmetric, in any unit, on the device where layers are solved. ValueError: not finite."""
        self.matrix = in_unit(hessian)
        self._found: dict[tuple[object, ...], object] = {}

    @cached_property
    def single(self) -> torch.Tensor:
        """H in float32."""
        return self.matrix.float()

    @cached_property
    def products(self) -> torch.Tensor:
        """H in the precision that products of changes with it need, found by whether float32 can factorize it."""
        return self.matrix if "factor_dtype" in self.factor(DAMPING).notes else self.single

    def once(self, find: Callable[..., Found], *settings: float) -> Found:
        """Return `find(H, *settings)`, found when it is first asked for; such as a factor in float64."""
        found: Found = self._kept((find, *settings), lambda: find(self.matrix, *settings))
        return found

    def factor(self, damping: float, order: Order = "activation") -> Factor:
        """Return `factorize` of H."""
        return self._kept((factorize, damping, order), lambda: factorize(self.matrix, self.single, damping, order))

    def scaled(self, factor: torch.Tensor) -> InputHessian:
        """Return that of the input multiplied by `factor`, float [K]."""
        wide = factor.double()
        return InputHessian(self.matrix * wide * wide[:, None])

    def error(self, change: torch.Tensor) -> float:
        """tr(D H D^T) for a change D [N, K] of a weight, not negative: `gptq.output_error`, as precise as H needs.

        Each off-diagonal part of H is multiplied once, for H is symmetric.
        """
        h, total = self.products, 0.0
        change = change.to(h.dtype)
        for start in range(0, change.shape[1], _BLOCK):
            part = slice(start, start + _BLOCK)
            pulled = change[:, part] @ h[part, part]
            pulled.addmm_(change[:, :start], h[:start, part], alpha=2)
            # Summed in float64, because products of large weights may not fit float32.
            total += float((pulled.double() * change[:, part]).sum())
        return max(total, 0.0)

    def _kept(self, key: tuple[object, ...], find: Callable[[], Found]) -> Found:
        if key not in self._found:
            self._found[key] = find()
        found: Found = self._found[key]  # type: ignore[assignment]
        return found
