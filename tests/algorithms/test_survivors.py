"""Conjugate gradients over the survivors against least squares row by row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.algorithms.gptq import output_error
from quant.algorithms.hessian import damp
from quant.algorithms.survivors import refit


def _inputs(seed: int, k: int, rows: int) -> torch.Tensor:
    """Correlated inputs [rows, k] whose channels differ in size, float64."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(k) + 0.4 * torch.randn(k, k, generator=generator)
    return (torch.randn(rows, k, generator=generator) @ mixing * torch.randn(k, generator=generator).exp()).double()


def _random(seed: int, n: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [n, k] and a mask of no pattern, rows without any and with all survivors among them."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, k, generator=generator) < torch.linspace(0, 1, n)[:, None]
    return torch.randn(n, k, generator=generator), mask


def _least_squares(x: torch.Tensor, output: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What of the weights under the mask gives an output [rows, N] for inputs [rows, K], one row at a time."""
    weight = torch.zeros(mask.shape, dtype=torch.float64)
    for row, kept in enumerate(mask):
        if kept.any():
            weight[row, kept] = torch.linalg.lstsq(x[:, kept], output[:, row, None]).solution[:, 0]
    return weight.float()


@given(seed=st.integers(0, 10_000), n=st.integers(1, 7), k=st.integers(1, 24))
@settings(max_examples=40, deadline=None)
def test_survivors_are_those_of_least_squares(seed: int, n: int, k: int) -> None:
    x = _inputs(seed, k, 2 * k + 8)
    target, mask = _random(seed, n, k)
    found = refit(target, x.T @ x, mask, damping=0, tolerance=1e-9)
    torch.testing.assert_close(found, _least_squares(x, x @ target.double().T, mask), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_the_default_tolerance_leaves_next_to_no_error_on_ill_conditioned_inputs(seed: int) -> None:
    k = 96
    x = _inputs(seed, k, 2 * k) * torch.logspace(0, 3, k).double()
    target, mask = _random(seed, 12, k)
    damped = damp(x.T @ x, 1e-3)
    found, exact = refit(target, x.T @ x, mask), torch.zeros(12, k)
    for row, kept in enumerate(mask):
        exact[row, kept] = torch.linalg.solve(damped[kept][:, kept], damped[kept] @ target[row].double()).float()
    assert output_error(target - found, damped) < (1 + 1e-4) * output_error(target - exact, damped)


@given(seed=st.integers(0, 10_000), iterations=st.integers(0, 12), damping=st.sampled_from([0.0, 1e-3, 0.1]))
@settings(max_examples=40, deadline=None)
def test_every_iteration_lowers_the_error(seed: int, iterations: int, damping: float) -> None:
    k = 16
    x = _inputs(seed, k, 24)
    target, mask = _random(seed, 5, k)
    damped = damp(x.T @ x, damping)

    def error(count: int) -> float:
        return output_error(target - refit(target, x.T @ x, mask, damping=damping, iterations=count), damped).item()

    assert error(iterations + 1) <= error(iterations) * (1 + 1e-6)


def test_rows_at_a_time_change_nothing() -> None:
    x = _inputs(0, 24, 60)
    target, mask = _random(0, 11, 24)
    whole = refit(target, x.T @ x, mask)
    for rows in (1, 4, 11):
        torch.testing.assert_close(refit(target, x.T @ x, mask, rows=rows), whole, rtol=1e-4, atol=1e-5)


def test_pruned_weights_are_exactly_0_and_what_is_exact_stays() -> None:
    x = _inputs(0, 24, 60)
    target, mask = _random(0, 11, 24)
    found = refit(target, x.T @ x, mask)
    assert not found[~mask].any()
    assert torch.equal(refit(target * mask, x.T @ x, mask), target * mask)


def test_inputs_never_seen_leave_their_survivors() -> None:
    x = _inputs(0, 8, 40)
    x[:, 3:6] = 0
    target, mask = _random(1, 6, 8)
    for damping in (0.0, 1e-3):
        found = refit(target, x.T @ x, mask, damping=damping)
        torch.testing.assert_close(found[:, 3:6], (target * mask)[:, 3:6])
    assert torch.equal(refit(target, torch.zeros(8, 8), mask), target * mask)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_hessian_that_is_not_finite_is_an_error(value: float) -> None:
    hessian = torch.eye(8)
    hessian[2, 2] = value
    with pytest.raises(ValueError, match="not finite"):
        refit(torch.ones(2, 8), hessian, torch.ones(2, 8, dtype=torch.bool))


def test_takes_half_precision_and_gives_float32() -> None:
    x = _inputs(0, 8, 40)
    target, mask = _random(1, 6, 8)
    found = refit(target.bfloat16(), (x.T @ x).float(), mask)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, refit(target.bfloat16().float(), x.T @ x, mask), rtol=1e-3, atol=1e-3)
