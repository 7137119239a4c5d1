"""What is shared by layers of one input: found once, and the same as found by itself."""

from __future__ import annotations

import pytest
import torch

from quant.algorithms import input_hessian
from quant.algorithms.gptq import output_error
from quant.algorithms.hessian import in_unit, lower_factor
from quant.algorithms.input_hessian import InputHessian

K = 40


def _inputs(seed: int) -> torch.Tensor:
    return torch.randn(100, K, generator=torch.Generator().manual_seed(seed)).double()


def test_everything_is_found_once() -> None:
    x = _inputs(0)
    hessian = InputHessian(x.T @ x * 1e30)
    assert torch.equal(hessian.matrix, in_unit(x.T @ x * 1e30))
    assert hessian.factor(0.01) is hessian.factor(0.01)
    assert hessian.factor(0.01) is not hessian.factor(0.02)
    assert hessian.factor(0.01) is not hessian.factor(0.01, "natural")
    root = hessian.once(lower_factor, 1e-6)
    assert root is hessian.once(lower_factor, 1e-6)
    assert root is not hessian.once(lower_factor, 1e-3)
    assert torch.equal(root, lower_factor(hessian.matrix, 1e-6))


@pytest.mark.parametrize("size", [1.0, 1e25])
def test_an_error_is_that_of_the_outputs(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(input_hessian, "_BLOCK", 16)  # K is no multiple of it
    x, change = _inputs(1), torch.randn(7, K) * size
    hessian = InputHessian(x.T @ x)
    assert hessian.error(change) == pytest.approx(float(output_error(change, hessian.matrix)), rel=1e-6)
    assert InputHessian(torch.diag(torch.tensor([1.0, -1e-9]))).error(torch.tensor([[0.0, 1.0]])) == 0


def test_inputs_multiplied_by_factors() -> None:
    x, factor = _inputs(2), torch.rand(K) + 0.1
    found, smoothed = InputHessian(x.T @ x).scaled(factor), x * factor
    torch.testing.assert_close(found.matrix, in_unit(smoothed.T @ smoothed))


def test_not_finite() -> None:
    with pytest.raises(ValueError, match="not finite"):
        InputHessian(torch.full((2, 2), torch.nan))
