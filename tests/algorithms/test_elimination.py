"""Layers solved together against the definitions, `gptq.solve` and `gptq.refine`, one layer at a time."""

from __future__ import annotations

import pytest
import torch

from quant.algorithms.elimination import descend, eliminate, stacked, unstacked
from quant.algorithms.factor import Order
from quant.algorithms.gptq import output_error, refine, solve
from quant.algorithms.input_hessian import InputHessian
from quant.formats.grid import Grid, ScalesByColumn, grid_of
from quant.formats.scheme import BLOCK, TensorFormat

GROUPS = TensorFormat(4, "int", "group", group_size=32)
ASYMMETRIC = TensorFormat(4, "int", "group", symmetric=False, group_size=32)
INT8 = TensorFormat(8, "int", "tensor")
FP8 = TensorFormat(8, "float", "channel")
BLOCKS = TensorFormat(8, "float", "block", block_structure=BLOCK)
SIZES = (5, 140, 9)
K = 320  # more than a block, and no whole number of blocks


def _inputs(seed: int, k: int, rows: int) -> torch.Tensor:
    """The Hessian of correlated inputs whose sizes differ."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, k, generator=generator) * torch.randn(k, generator=generator).exp()
    x = x + 0.5 * x.roll(1, dims=1) + 0.3 * torch.randn(rows, 1, generator=generator)
    return (x.T @ x).double()


def _weights(seed: int, k: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, k, generator=generator) for n in SIZES]


def _scales(grids: list[Grid], k: int) -> ScalesByColumn:
    return ScalesByColumn.joined([grid.by_column(n, k) for grid, n in zip(grids, SIZES, strict=True)])


def _by_row(change: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
    return ((change.double() @ h) * change).sum(dim=1)


def _same(found: torch.Tensor, expected: torch.Tensor, weight: torch.Tensor, h: torch.Tensor) -> None:
    """But for ties that rounding decides, and what follows from them."""
    assert (found != expected).float().mean() < 1e-3
    errors = [float(output_error(each - weight, h)) for each in (found, expected)]
    assert errors[0] == pytest.approx(errors[1], rel=1e-3)


@pytest.mark.parametrize(
    ("tensor_format", "order", "masked"),
    [
        (GROUPS, "activation", False),
        (GROUPS, "natural", True),
        (ASYMMETRIC, "activation", False),
        (INT8, "natural", False),
        (FP8, "activation", True),
        (BLOCKS, "activation", False),
    ],
)
def test_layers_together_are_what_each_is_by_definition(
    tensor_format: TensorFormat, order: Order, masked: bool
) -> None:
    h, weights = _inputs(1, K, 2 * K), _weights(2, K)
    masks = [weight.abs() > 0.5 for weight in weights] if masked else None
    grids = [grid_of(weight, tensor_format) for weight in weights]
    target, scales, mask = stacked(weights), _scales(grids, K), None if masks is None else stacked(masks)
    hessian = InputHessian(h)
    solved = eliminate(target, scales, hessian.factor(0.01, order), mask)
    refined = descend(target, solved, hessian.products, scales, mask)
    assert torch.equal(target, stacked(weights))
    for i, (weight, grid) in enumerate(zip(weights, grids, strict=True)):
        kept = None if masks is None else masks[i]
        first, second = (unstacked(each, SIZES)[i] for each in (solved, refined))
        expected = solve(weight, h, grid, mask=kept, order=order)
        _same(first, expected, weight, h)
        _same(second, refine(weight, first, h, grid, mask=kept), weight, h)
        before, after = (_by_row(each - weight, h) for each in (first, second))
        assert (after <= before * (1 + 1e-6)).all()
        if kept is None:
            assert torch.equal(grid.values(grid.codes(second)), second)
        else:
            assert not first[~kept].any() and not second[~kept].any()


def test_inputs_of_few_directions_are_solved_as_by_definition() -> None:
    """20 tokens, of which one is most of what was seen: float32 would give other errors."""
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randn(20, K, generator=generator)
    tokens[0] *= 30
    x = tokens[torch.randint(20, (2000,), generator=generator)]
    h, weights = (x.T @ x).double(), _weights(4, K)
    grids = [grid_of(weight, GROUPS) for weight in weights]
    hessian = InputHessian(h)
    factor = hessian.factor(0.01)
    assert factor.notes["factor_dtype"] == "float64" and hessian.products.dtype == torch.float64
    target, scales = stacked(weights), _scales(grids, K)
    solved = eliminate(target, scales, factor)
    refined = descend(target, solved, hessian.products, scales)
    for i, (weight, grid) in enumerate(zip(weights, grids, strict=True)):
        first, second = (unstacked(each, SIZES)[i] for each in (solved, refined))
        _same(first, solve(weight, h, grid), weight, h)
        _same(second, refine(weight, first, h, grid), weight, h)


def test_inputs_never_seen_are_rounded_to_nearest_and_keep_their_rounding() -> None:
    h, weights = _inputs(5, K, 2 * K), _weights(6, K)
    dead = [0, 17, 300]
    h[dead], h[:, dead] = 0, 0
    grids = [grid_of(weight, GROUPS) for weight in weights]
    hessian, target, scales = InputHessian(h), stacked(weights), _scales(grids, K)
    solved = eliminate(target, scales, hessian.factor(0.0))
    nearest = stacked([grid.values(grid.codes(weight)) for grid, weight in zip(grids, weights, strict=True)])
    assert torch.equal(solved[dead], nearest[dead])
    assert torch.equal(descend(target, solved, hessian.products, scales)[dead], solved[dead])
