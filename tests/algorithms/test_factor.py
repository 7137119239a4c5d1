"""The factor of a Hessian against the Hessian, and what is noted where float32 or a damping is not enough."""

from __future__ import annotations

import pytest
import torch

from quant.algorithms.factor import ORDERS, Factor, Order, factorize
from quant.algorithms.hessian import damp, in_unit

K = 96


def _hessian(directions: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(directions, K, generator=generator).double() * torch.logspace(-2, 1, K).double()
    x = torch.randn(4 * K, directions, generator=generator).double() @ basis
    return in_unit(x.T @ x)


def _factor(h: torch.Tensor, damping: float, order: Order = "activation") -> Factor:
    return factorize(h, h.float(), damping, order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("directions", [3, K])
def test_what_is_left_of_each_column_depends_on_none_before(directions: int, order: Order) -> None:
    """L^-1 H L^-T is diagonal for the L of unit diagonal, and its diagonal is the squares of what was divided by."""
    h = _hessian(directions)
    damped, factor = damp(h, 0.01), _factor(h, 0.01, order)
    sizes = damped.diagonal()[factor.order]
    if order == "activation":
        assert torch.equal(sizes, sizes.sort().values)
    else:
        assert factor.order.tolist() == list(range(K - 1, -1, -1))
    exact = torch.linalg.cholesky(damped[factor.order][:, factor.order])
    torch.testing.assert_close(factor.lower.double(), exact / exact.diagonal(), rtol=1e-4, atol=1e-4)
    assert torch.equal(factor.lower.diagonal(), torch.ones(K))
    assert factor.damping == 0.01


def test_float64_is_used_where_float32_is_off_and_that_is_noted() -> None:
    assert _factor(_hessian(K), 0.01).notes == {}
    few = _factor(_hessian(3), 1e-4).notes
    assert few["factor_dtype"] == "float64"
    assert few["float32_off"] is None or few["float32_off"] > 1e-5


def test_a_damping_that_is_raised_is_noted() -> None:
    h = _hessian(3) - 1e-3 * _hessian(3).diagonal().mean() * torch.eye(K)
    factor = _factor(h, 1e-9)
    assert factor.notes["damping"] == factor.damping == pytest.approx(1e-2)
    with pytest.raises(ValueError, match="not positive definite: more calibration data is needed"):
        _factor(h - 100 * torch.eye(K), 1e-9)
