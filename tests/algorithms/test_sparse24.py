"""2:4 masks against every mask there is, and SparseGPT against its definition."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.algorithms.gptq import output_error
from quant.algorithms.hessian import damp
from quant.algorithms.sparse24 import admm_mask, magnitude_mask, prune, sparsegpt, wanda_mask
from quant.algorithms.survivors import refit

Pruner = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
PATTERNS = [[i in pair for i in range(4)] for pair in itertools.combinations(range(4), 2)]


def _case(seed: int, n: int, k: int, rows: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """A weight [n, k] and H of correlated inputs whose sizes differ."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(k) + 0.5 * torch.randn(k, k, generator=generator)
    x = torch.randn(rows or 3 * k, k, generator=generator) @ mixing * torch.randn(k, generator=generator).exp()
    return torch.randn(n, k, generator=generator), (x.T @ x).double()


def _is_24(mask: torch.Tensor) -> bool:
    return mask.dtype == torch.bool and bool((mask.reshape(mask.shape[0], -1, 4).sum(dim=2) == 2).all())


def _least_error(weight: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """The error [N] that the best of all masks reaches, each with its own least squares."""
    best = torch.full((weight.shape[0],), torch.inf, dtype=torch.float64)
    for choice in itertools.product(PATTERNS, repeat=weight.shape[1] // 4):
        kept = torch.tensor(list(itertools.chain(*choice)))
        exact = torch.zeros_like(weight, dtype=torch.float64)
        within = hessian[kept][:, kept]
        exact[:, kept] = torch.linalg.solve(within, hessian[kept] @ weight.double().T).T
        best = torch.minimum(best, _errors(weight - exact, hessian))
    return best


def _errors(difference: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    return torch.stack([output_error(row[None], hessian) for row in difference])


def _sparsegpt_refitted(weight: torch.Tensor, hessian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    mask, _ = sparsegpt(weight, hessian, damping=1e-6)
    return mask, refit(weight, hessian, mask, damping=1e-6)


@pytest.mark.parametrize(
    ("group", "kept"),
    [
        ([1.0, -4.0, 2.0, 3.0], [0, 1, 0, 1]),
        ([0.0, 0.0, 0.0, 0.0], [1, 1, 0, 0]),
        ([1.0, 1.0, -1.0, 1.0], [1, 1, 0, 0]),
        ([0.0, 1.0, 1.0, -1.0], [0, 1, 1, 0]),
    ],
)
def test_magnitude_keeps_the_two_largest_and_of_equal_ones_the_first(group: list[float], kept: list[int]) -> None:
    weight = torch.tensor([group * 2, [9.0, 9.0, 0.0, 0.0, *group]])
    expected = torch.tensor([kept * 2, [1, 1, 0, 0, *kept]]).bool()
    assert torch.equal(magnitude_mask(weight), expected)
    assert torch.equal(magnitude_mask(weight.bfloat16()), expected)


def test_wanda_weighs_by_the_size_of_the_input() -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0, 4.0]])
    assert wanda_mask(weight, torch.ones(4)).tolist() == [[False, False, True, True]]
    assert wanda_mask(weight, torch.tensor([100.0, 9.0, 1.0, 1.0])).tolist() == [[True, True, False, False]]


def test_wanda_is_the_least_error_of_one_pruned_weight_at_a_time() -> None:
    weight, hessian = _case(0, 6, 8)
    mask = wanda_mask(weight, hessian.diagonal())
    lost = (weight.square() * hessian.diagonal()).reshape(6, 2, 4)
    kept = mask.reshape(6, 2, 4)
    assert ((lost * ~kept).amax(dim=2) <= torch.where(kept, lost, torch.inf).amin(dim=2)).all()


@pytest.mark.parametrize("k", [3, 6, 129])
def test_columns_that_do_not_divide_by_4_are_refused(k: int) -> None:
    for make in (magnitude_mask, lambda weight: admm_mask(weight, torch.eye(k)), lambda w: sparsegpt(w, torch.eye(k))):
        with pytest.raises(ValueError, match=f"multiple of 4 columns, got {k}"):
            make(torch.ones(2, k))


@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), groups=st.integers(1, 10), rows=st.integers(1, 40))
@settings(max_examples=40, deadline=None)
@pytest.mark.parametrize("pruner", [prune, sparsegpt])
def test_two_of_every_four_stay_and_the_others_are_0(pruner: Pruner, seed: int, n: int, groups: int, rows: int) -> None:
    weight, hessian = _case(seed, n, 4 * groups, rows)
    mask, pruned = pruner(weight, hessian)
    assert _is_24(mask)
    assert pruned.dtype == torch.float32
    assert pruned.isfinite().all()
    assert not pruned[~mask].any()


@given(
    seed=st.integers(0, 10_000),
    groups=st.integers(1, 8),
    rows=st.integers(1, 40),
    damping=st.sampled_from([1e-6, 1e-3, 1.0, 100.0]),
    iterations=st.sampled_from([1, 2, 60]),
)
@settings(max_examples=60, deadline=None)
def test_no_row_is_worse_than_magnitude(seed: int, groups: int, rows: int, damping: float, iterations: int) -> None:
    weight, hessian = _case(seed, 6, 4 * groups, rows)
    _, pruned = prune(weight, hessian, damping=damping, iterations=iterations)
    plain = _errors(weight - weight * magnitude_mask(weight), hessian)
    assert (_errors(weight - pruned, hessian) <= plain * (1 + 1e-6) + 1e-9).all()


@pytest.mark.parametrize(("k", "within"), [(4, 1.1), (8, 1.12), (12, 1.15)])
def test_is_near_the_best_of_all_masks(k: int, within: float) -> None:
    """Summed over many layers; a single row may do worse. SparseGPT's mask, refitted as well, is farther away."""
    cases = [_case(seed, 8, k) for seed in range(12)]
    least = sum(_least_error(weight, hessian).sum() for weight, hessian in cases)

    def total(pruner: Pruner) -> torch.Tensor:
        return sum((output_error(w - pruner(w, h)[1], h) for w, h in cases), torch.zeros(()))

    found = total(lambda w, h: prune(w, h, damping=1e-6))
    assert least * (1 - 1e-4) <= found <= within * least
    assert found < total(_sparsegpt_refitted)


@pytest.mark.parametrize("seed", range(4))
def test_each_method_is_better_than_the_one_before(seed: int) -> None:
    weight, hessian = _case(seed, 32, 128)
    methods = {
        "magnitude": weight * magnitude_mask(weight),
        "wanda": weight * wanda_mask(weight, hessian.diagonal().float()),
        "sparsegpt": sparsegpt(weight, hessian)[1],
        "sparsegpt, refitted": _sparsegpt_refitted(weight, hessian)[1],
        "admm": prune(weight, hessian)[1],
    }
    errors = [output_error(weight - values, hessian).item() for values in methods.values()]
    assert errors == sorted(errors, reverse=True), dict(zip(methods, errors, strict=True))
    assert errors[-1] < 0.85 * errors[-2]


def test_survivors_are_the_best_for_the_mask() -> None:
    weight, hessian = _case(1, 8, 32)
    mask, pruned = prune(weight, hessian, damping=1e-3)
    damped = damp(hessian, 1e-3)
    slope = ((weight - pruned).double() @ damped) * mask
    assert slope.abs().max() < 1e-4 * (weight.double() @ damped).abs().max()


def test_sparsegpt_by_its_definition() -> None:
    """The inverse of what is left of H is made anew for each column, and the best answer to each loss looked up."""
    weight, hessian = _case(2, 5, 24)
    damped = damp(hessian, 0.01)
    work, mask = weight.double().clone(), torch.zeros(5, 24, dtype=torch.bool)
    for j in range(24):
        if j % 4 == 0:
            ahead = torch.stack([torch.linalg.inv(damped[i:, i:])[0, 0] for i in range(j, j + 4)])
            mask[:, j : j + 4] = magnitude_mask(work[:, j : j + 4].square() / ahead)
        inverse = torch.linalg.inv(damped[j:, j:])
        error = torch.where(mask[:, j], 0, work[:, j]) / inverse[0, 0]
        work[:, j:] -= error[:, None] * inverse[0]
    for block in (4, 8, 128):
        found_mask, found = sparsegpt(weight, hessian, block=block)
        assert torch.equal(found_mask, mask)
        torch.testing.assert_close(found, (work * mask).float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pruner", [prune, sparsegpt])
def test_a_weight_that_is_sparse_already_stays(pruner: Pruner) -> None:
    weight, hessian = _case(3, 6, 32)
    mask = magnitude_mask(weight)
    found_mask, found = pruner(weight * mask, hessian)
    assert torch.equal(found_mask, mask)
    torch.testing.assert_close(found, weight * mask)


@pytest.mark.parametrize("pruner", [prune, sparsegpt])
def test_independent_inputs_leave_nothing_to_make_up_for(pruner: Pruner) -> None:
    weight, _ = _case(4, 6, 32)
    sizes = torch.linspace(1, 5, 32)
    mask, found = pruner(weight, torch.diag(sizes))
    assert torch.equal(mask, wanda_mask(weight, damp(torch.diag(sizes), 0.01).diagonal()))
    torch.testing.assert_close(found, weight * mask)


@pytest.mark.parametrize("pruner", [prune, sparsegpt])
def test_the_unit_of_the_hessian_does_not_matter(pruner: Pruner) -> None:
    weight, hessian = _case(5, 6, 32)
    for factor in (1e-8, 1e8):
        mask, found = pruner(weight, hessian * factor)
        assert torch.equal(mask, pruner(weight, hessian)[0])
        torch.testing.assert_close(found, pruner(weight, hessian)[1], rtol=1e-3, atol=1e-4)


def test_the_weight_given_is_left_as_it_was() -> None:
    weight, hessian = _case(6, 6, 32)
    copies = weight.clone(), hessian.clone()
    for given_dtype in (torch.float32, torch.float64):
        prune(weight.to(given_dtype), hessian)
        sparsegpt(weight.to(given_dtype), hessian)
    assert torch.equal(weight, copies[0])
    assert torch.equal(hessian, copies[1])


@pytest.mark.parametrize("pruner", [prune, sparsegpt])
def test_a_hessian_that_is_not_finite_is_an_error(pruner: Pruner) -> None:
    hessian = torch.eye(8)
    hessian[1, 2] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        pruner(torch.ones(2, 8), hessian)
