"""The branch against `torch.linalg.svd` and against other matrices of its rank."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.algorithms.gptq import output_error, solve
from quant.algorithms.hessian import lower_factor
from quant.algorithms.low_rank import alternate, branch
from quant.formats.grid import grid_of
from quant.formats.scheme import TensorFormat

CHANNEL = TensorFormat(4, "int", "channel")


def _case(seed: int, n: int = 12, k: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [n, k] and the rows [100, k] it reads."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(100, k, generator=generator) * torch.randn(k, generator=generator).exp()
    return torch.randn(n, k, generator=generator), (x + 0.5 * x.roll(1, dims=1)).double()


@pytest.mark.parametrize("rank", [1, 3, 12])
def test_without_a_hessian_it_is_the_truncated_svd(rank: int) -> None:
    residual, _ = _case(0)
    up, down = branch(residual, None, rank)
    left, values, right = torch.linalg.svd(residual, full_matrices=False)
    expected = (left[:, :rank] * values[:rank]) @ right[:rank]
    torch.testing.assert_close(up @ down, expected, atol=1e-5, rtol=1e-5)
    assert (up.shape, down.shape) == ((12, rank), (rank, 32))
    torch.testing.assert_close(up.norm(dim=0), down.norm(dim=1))


@pytest.mark.parametrize("rank", [1, 3])
def test_with_a_hessian_it_is_the_truncated_svd_of_the_outputs(rank: int) -> None:
    """The best outputs of rank r are known without any root of H: Eckart and Young on X R^T."""
    residual, x = _case(1)
    up, down = branch(residual, x.T @ x, rank, damping=0)
    left, values, right = torch.linalg.svd(x @ residual.double().T, full_matrices=False)
    expected = (left[:, :rank] * values[:rank]) @ right[:rank]
    torch.testing.assert_close(x @ (up @ down).double().T, expected, atol=1e-4, rtol=1e-4)
    least = values[rank:].square().sum()
    torch.testing.assert_close(output_error(residual - up @ down, x.T @ x), least, rtol=1e-5, atol=0)


@given(seed=st.integers(0, 10_000), rank=st.integers(1, 11))
@settings(max_examples=30, deadline=None)
def test_a_higher_rank_is_better_and_none_is_worst(seed: int, rank: int) -> None:
    residual, x = _case(seed)
    h = x.T @ x
    none = float(output_error(residual, h))
    lower, higher = (float(output_error(residual - torch.mm(*branch(residual, h, r)), h)) for r in (rank, rank + 1))
    assert higher <= lower * (1 + 1e-6) + 1e-6 * none
    assert lower < none


def test_a_residual_of_low_rank_is_taken_whole_and_zero_stays_zero() -> None:
    _, x = _case(2)
    residual = torch.randn(12, 2) @ torch.randn(2, 32)
    torch.testing.assert_close(torch.mm(*branch(residual, x.T @ x, 2)), residual, atol=1e-4, rtol=1e-4)
    up, down = branch(torch.zeros(12, 32), x.T @ x, 2)
    assert torch.equal(up @ down, torch.zeros(12, 32))
    assert down.isfinite().all()


def test_inputs_never_seen_are_no_division_by_zero() -> None:
    residual, x = _case(3)
    x[:, [0, 7]] = 0
    up, down = branch(residual, x.T @ x, 3)
    assert up.isfinite().all()
    assert down.isfinite().all()


@pytest.mark.parametrize("rank", [0, 13])
def test_a_rank_that_does_not_fit_is_an_error(rank: int) -> None:
    with pytest.raises(ValueError, match=f"rank must be 1 to 12 for a weight of 12 x 32, got {rank}"):
        branch(_case(0)[0], None, rank)


def _rounded(h: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return solve(weight, h, grid_of(weight, CHANNEL))


def _pruned(weight: torch.Tensor) -> torch.Tensor:
    parts = weight.abs().reshape(weight.shape[0], -1, 4)
    return weight * (parts.argsort(dim=2).argsort(dim=2) >= 2).reshape(weight.shape)


@pytest.mark.parametrize("pruning", [False, True])
def test_taking_turns_beats_a_branch_for_what_compression_left(pruning: bool) -> None:
    weight, x = _case(4)
    h = x.T @ x
    calls: list[torch.Tensor] = []

    def compress(values: torch.Tensor) -> torch.Tensor:
        calls.append(_pruned(values) if pruning else _rounded(h, values))
        return calls[-1]

    plain = compress(weight)
    once = plain + torch.mm(*branch(weight - plain, h, 2))
    compressed, up, down = alternate(weight, h, 2, compress, rounds=3)
    error = output_error(weight - compressed - up @ down, h)
    assert error <= output_error(weight - once, h) < output_error(weight - plain, h)
    assert any(torch.equal(compressed, call) for call in calls)
    assert len(calls) == 1 + 2 * 3


def test_an_outlier_goes_into_the_branch() -> None:
    weight, x = _case(5)
    weight = weight + 30 * torch.outer(torch.randn(12), torch.randn(32))
    h = x.T @ x
    compressed, up, down = alternate(weight, h, 1, lambda values: _rounded(h, values))
    assert compressed.abs().max() < 0.2 * weight.abs().max()
    assert output_error(weight - compressed - up @ down, h) < 0.02 * output_error(weight - _rounded(h, weight), h)


@pytest.mark.parametrize("directions", [1, 3, 8])
def test_inputs_that_span_few_directions(directions: int) -> None:
    """A Hessian multiplied in float32 is not positive definite then. The oracle solves in the span, in float64."""
    generator = torch.Generator().manual_seed(directions)
    basis = torch.randn(directions, 96, generator=generator)
    x = torch.randn(500, directions, generator=generator) @ basis
    residual = torch.randn(40, 96, generator=generator)
    up, down = branch(residual, x.T @ x, 4)
    outputs = residual.double() @ x.double().T
    left, values, right = torch.linalg.svd(outputs, full_matrices=False)
    best = (outputs - (left[:, :4] * values[:4]) @ right[:4]).norm() / outputs.norm()
    found = (outputs - up.double() @ (down.double() @ x.double().T)).norm() / outputs.norm()
    assert found <= best * 1.01 + 1e-3


def test_inputs_that_span_all_directions_are_not_damped_more() -> None:
    x = torch.randn(500, 32, generator=torch.Generator().manual_seed(5))
    h = (x.T @ x).double()
    damped = h + 1e-6 * h.diagonal().mean() * torch.eye(32)
    torch.testing.assert_close(lower_factor(h, 1e-6), torch.linalg.cholesky(damped), rtol=1e-12, atol=1e-12)
