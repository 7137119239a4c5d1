"""Hessians of degenerate inputs: in any unit, damped, factorized."""

from __future__ import annotations

import pytest
import torch

from quant.algorithms.gptq import output_error
from quant.algorithms.hessian import damp, in_unit, inverse_factor, lower_factor


def _rank(directions: int) -> torch.Tensor:
    """A float32 product of inputs that span few of 48 directions."""
    generator = torch.Generator().manual_seed(directions)
    x = torch.randn(100, directions, generator=generator) @ torch.randn(directions, 48, generator=generator)
    return x.T @ x


@pytest.mark.parametrize("size", [1e-80, 1e-38, 1.0, 1e38, 1e76])
def test_a_unit_changes_no_bit(size: float) -> None:
    h = _rank(48).double() * size
    found = in_unit(h)
    assert 0.25 <= found.abs().max() < 1
    factor = (h / found)[0, 0]
    assert torch.equal(found * factor, h)
    root = factor.sqrt()
    assert torch.frexp(root).mantissa == 0.5
    if 1e-30 < size < 1e30:  # what float32 holds
        assert torch.equal(inverse_factor(found, 0.01), inverse_factor(h, 0.01) * root)
    assert torch.equal(in_unit(torch.zeros(3, 3)), torch.zeros(3, 3, dtype=torch.float64))


@pytest.mark.parametrize("directions", [1, 2, 5, 48])
@pytest.mark.parametrize("damping", [1e-12, 1e-6, 0.01])
def test_factors_multiply_to_the_damped_hessian(directions: int, damping: float) -> None:
    h = _rank(directions)
    lower, upper = lower_factor(h, damping), inverse_factor(h, damping)
    scale = float(h.diagonal().mean())
    # Rounding of the float32 product is what damping has to outweigh.
    torch.testing.assert_close(lower @ lower.T, damp(h, damping), rtol=0, atol=1e-4 * scale)
    product = upper.T @ upper @ damp(h, 0.01) if damping == 0.01 else None
    if product is not None:
        torch.testing.assert_close(product, torch.eye(48, dtype=torch.float64), rtol=0, atol=1e-6)


def test_an_output_error_is_not_negative() -> None:
    h = torch.diag(torch.tensor([1.0, -1e-9]))
    assert output_error(torch.tensor([[0.0, 1.0]]), h) == 0
