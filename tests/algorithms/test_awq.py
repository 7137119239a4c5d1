"""AWQ's factors against ModelOpt's, and that its search is never worse than doing nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from quant.algorithms.awq import ALPHAS, awq_factors, search, weight_importance
from quant.algorithms.gptq import output_error
from quant.formats.layer import LayerFormat
from quant.formats.scheme import SCHEMES
from quant.formats.tensors import pack_linear, unpack_linear

N, K = 48, 256
W4A16 = SCHEMES["W4A16"]


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def rows() -> torch.Tensor:
    """Inputs of which some channels are much larger, as activations have them."""
    generator = torch.Generator().manual_seed(1)
    size = torch.rand(K, generator=generator).pow(6) * 30 + 0.1
    return torch.randn(500, K, generator=generator) * size


def moments(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    wide = rows.double()
    return rows.abs().mean(dim=0), wide.T @ wide / len(rows)


def test_the_search_finds_what_modelopt_finds(weight: torch.Tensor, rows: torch.Tensor) -> None:
    import modelopt.torch.quantization as mtq

    layer = nn.Linear(K, N, bias=False)
    layer.weight.data = weight.clone()
    model = nn.Sequential(copy.deepcopy(layer))
    theirs = mtq.quantize(model, copy.deepcopy(mtq.INT4_AWQ_CFG), forward_loop=lambda m: m(rows))[0]
    ours = search([weight], [W4A16], *moments(rows))
    assert ours.pre_quant_scale is not None and ours.alpha > 0
    factor = theirs.input_quantizer.pre_quant_scale.flatten()
    assert torch.allclose(ours.pre_quant_scale, factor, rtol=1e-3)


def test_the_error_is_that_of_the_outputs(weight: torch.Tensor, rows: torch.Tensor) -> None:
    found = search([weight], [W4A16], *moments(rows))
    exact = rows @ weight.T
    for factor, error in ((found.pre_quant_scale, found.error), (None, found.error_without)):
        stored = unpack_linear(pack_linear(weight, LayerFormat(W4A16), pre_quant_scale=factor), LayerFormat(W4A16))
        assert error == pytest.approx(float((rows @ stored.T - exact).norm() / exact.norm()), rel=1e-4)
    assert found.error < 0.9 * found.error_without
    assert found.alpha in ALPHAS


def test_layers_that_read_one_input_share_a_factor(weight: torch.Tensor, rows: torch.Tensor) -> None:
    mean, hessian = moments(rows)
    other = torch.randn(8, K, generator=torch.Generator().manual_seed(2)) * 5
    both = search([weight, other], [W4A16, W4A16], mean, hessian)
    stacked = search([torch.cat([weight, other])], [W4A16], mean, hessian)
    assert both.pre_quant_scale is not None and stacked.pre_quant_scale is not None
    assert torch.equal(both.pre_quant_scale, stacked.pre_quant_scale)
    assert both.error == pytest.approx(stacked.error)


def test_nothing_is_scaled_where_nothing_helps() -> None:
    # All columns alike and all inputs alike: there is nothing to trade, and every weight is on its grid.
    weight = torch.ones(4, 128)
    found = search([weight], [W4A16], torch.ones(128), torch.eye(128, dtype=torch.float64))
    assert found.pre_quant_scale is None
    assert found.error == found.error_without


def test_factors_are_centred_and_finite_for_channels_that_are_never_used(weight: torch.Tensor) -> None:
    mean = torch.rand(K, generator=torch.Generator().manual_seed(3))
    mean[:7] = 0
    for alpha in ALPHAS:
        factor = awq_factors(mean, weight_importance([weight], 128), alpha)
        assert torch.isfinite(factor).all() and (factor > 0).all()
        assert float(factor.max() * factor.min()) == pytest.approx(1, rel=1e-4)


def test_importance_is_a_column_beside_the_largest_of_its_group() -> None:
    weight = torch.tensor([[1.0, -2.0, 8.0, 4.0], [3.0, 3.0, 0.0, 0.0]])
    assert torch.allclose(weight_importance([weight], 2), torch.tensor([0.75, 1.0, 0.5, 0.25]))


def test_awq_comes_before_gptq(weight: torch.Tensor, rows: torch.Tensor) -> None:
    from quant.algorithms.stages import round_smoothed
    from tests.algorithms.test_stages import group

    _, hessian = moments(rows)
    factor = search([weight], [W4A16], *moments(rows)).pre_quant_scale
    of = group(scheme="W4A16", algorithm={"name": "awq", "rounding": "gptq"})
    made = round_smoothed(weight, of, hessian, factor)
    assert made is not None
    stored = unpack_linear(
        pack_linear(made.weight, of.layer_format, grid=made.grid, pre_quant_scale=factor), of.layer_format
    )
    plain = unpack_linear(pack_linear(weight, LayerFormat(W4A16), pre_quant_scale=factor), LayerFormat(W4A16))
    assert output_error(stored - weight, hessian) < output_error(plain - weight, hessian)


def test_every_tensor_is_made_where_the_weight_is(weight: torch.Tensor, rows: torch.Tensor) -> None:
    given = moments(rows)
    expected = search([weight], [W4A16], *given)
    with torch.device("meta"):
        found = search([weight], [W4A16], *given)
    assert expected.pre_quant_scale is not None and found.pre_quant_scale is not None
    assert torch.equal(found.pre_quant_scale, expected.pre_quant_scale)
