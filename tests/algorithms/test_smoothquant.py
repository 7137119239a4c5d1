from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.algorithms.smoothquant import ALPHAS, check_alpha, smooth, smoothing_factors
from quant.errors import RecipeError
from quant.formats.scheme import SCHEMES, Scheme

W8A8 = SCHEMES["W8A8"]
_INT8 = {"num_bits": 8, "type": "int"}
STATIC_INT8 = Scheme.parse(
    {"weights": {**_INT8, "strategy": "channel"}, "input_activations": {**_INT8, "strategy": "tensor"}}
)
EVERY_SCHEME = [*(SCHEMES[name] for name in ("FP8_DYNAMIC", "FP8", "W8A8")), STATIC_INT8]


def _case(seed: int, *shapes: int, rows: int = 24, spread: float = 1.0) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Weights [N, 16] for each N of `shapes`, and rows [R, 16] whose channels differ by e^spread."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(n, 16, generator=generator) for n in shapes]
    channels = (spread * torch.randn(16, generator=generator)).exp()
    return weights, torch.randn(rows, 16, generator=generator) * channels


def _exact_case() -> tuple[torch.Tensor, torch.Tensor]:
    """A layer that INT8 holds exactly without smoothing, and whose columns differ."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randint(-40, 41, (6, 16), generator=generator).float()
    weight[:, 0] = 127
    rows = torch.randint(0, 2, (24, 16), generator=generator) * 2.0 - 1
    return weight, rows


@pytest.mark.parametrize(
    ("x", "w", "alpha", "factor"),
    [
        (4.0, 1.0, 0.5, 0.5),
        (1.0, 4.0, 0.5, 2.0),
        (8.0, 3.0, 1.0, 0.125),
        (16.0, 81.0, 0.25, 13.5),
        (3.0, 3.0, 0.5, 1.0),
    ],
)
def test_factors_in_closed_form(x: float, w: float, alpha: float, factor: float) -> None:
    found = smoothing_factors(torch.tensor([x, 1.0]), torch.tensor([w, 1.0]), alpha)
    torch.testing.assert_close(found, torch.tensor([factor, 1.0]))


def test_half_strength_gives_input_and_weight_the_same_reach() -> None:
    x, w = torch.rand(32) * 100 + 0.01, torch.rand(32) + 0.01
    p = smoothing_factors(x, w, 0.5)
    torch.testing.assert_close(x * p, w / p)
    torch.testing.assert_close(x * p, (x * w).sqrt())


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0])
@pytest.mark.parametrize(("x", "w"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1e30, 1e-30), (1e-30, 1e30)])
def test_factors_are_positive_and_finite(alpha: float, x: float, w: float) -> None:
    factor = smoothing_factors(torch.tensor([x]), torch.tensor([w]), alpha)
    assert factor.dtype == torch.float32
    assert 1e-6 < factor.item() < 1e6


@given(seed=st.integers(0, 10_000), alpha=st.sampled_from(ALPHAS[1:]), spread=st.floats(0, 3))
@settings(max_examples=30, deadline=None)
def test_the_product_does_not_change(seed: int, alpha: float, spread: float) -> None:
    (weight,), rows = _case(seed, 8, spread=spread)
    p = smoothing_factors(rows.abs().amax(dim=0), weight.abs().amax(dim=0), alpha).double()
    x, w = rows.double(), weight.double()
    torch.testing.assert_close((x * p) @ (w / p).T, x @ w.T, rtol=1e-10, atol=1e-10)


@given(seed=st.integers(0, 10_000), spread=st.floats(0, 3), scheme=st.sampled_from(EVERY_SCHEME))
@settings(max_examples=40, deadline=None)
def test_search_takes_the_best_candidate_and_is_never_worse_than_none(seed: int, spread: float, scheme: Scheme) -> None:
    weights, rows = _case(seed, 4, 6, spread=spread)
    amax = rows.abs().amax(dim=0)
    found = smooth(weights, [scheme] * 2, rows, amax, "search")
    fixed = {alpha: smooth(weights, [scheme] * 2, rows, amax, alpha).error for alpha in ALPHAS}
    assert found.error == min(fixed.values()) == fixed[found.alpha]
    assert found.error <= found.error_without == fixed[0.0]
    assert (found.pre_quant_scale is None) == (found.alpha == 0)


@pytest.mark.parametrize("scheme", [W8A8, STATIC_INT8], ids=lambda scheme: scheme.name)
def test_an_outlier_channel_is_smoothed(scheme: Scheme) -> None:
    (weight,), rows = _case(0, 32, rows=64, spread=0.1)
    rows[:, 5] *= 100
    found = smooth([weight], [scheme], rows, rows.abs().amax(dim=0), "search")
    assert found.alpha > 0
    assert found.error < 0.5 * found.error_without
    assert found.pre_quant_scale is not None
    assert found.pre_quant_scale.argmin() == 5


@pytest.mark.parametrize("alpha", ["search", 0, 0.0])
def test_what_needs_no_smoothing_gets_none(alpha: float | str) -> None:
    weight, rows = _exact_case()
    found = smooth([weight], [W8A8], rows, torch.ones(16), alpha)
    assert (found.pre_quant_scale, found.alpha) == (None, 0)
    assert found.error == found.error_without < 1e-6


def test_a_fixed_strength_is_obeyed_even_where_it_hurts() -> None:
    weight, rows = _exact_case()
    found = smooth([weight], [W8A8], rows, torch.ones(16), 0.7)
    assert found.pre_quant_scale is not None
    torch.testing.assert_close(found.pre_quant_scale, smoothing_factors(torch.ones(16), weight.abs().amax(dim=0), 0.7))
    assert found.error > 1e-3 > found.error_without


def test_layers_of_one_input_share_factors_over_all_their_weights() -> None:
    weights, rows = _case(1, 4, 8, 2)
    weights[1] *= 10
    amax = rows.abs().amax(dim=0)
    found = smooth(weights, [W8A8] * 3, rows, amax, 0.5)
    together = torch.cat(weights).abs().amax(dim=0)
    assert found.pre_quant_scale is not None
    assert torch.equal(found.pre_quant_scale, smoothing_factors(amax, together, 0.5))


def test_no_output_has_no_error() -> None:
    found = smooth([torch.ones(4, 16)], [W8A8], torch.zeros(3, 16), torch.zeros(16), "search")
    assert (found.error, found.error_without, found.pre_quant_scale) == (0, 0, None)


@pytest.mark.parametrize("alpha", ["search", 0.01, 0.5, 1, 1.0])
def test_a_strength_up_to_1_is_taken(alpha: object) -> None:
    check_alpha(alpha, "here")  # raises where it is not


@pytest.mark.parametrize("alpha", ["Search", "0.5", -0.1, 0, 1.01, True, None, float("nan"), [0.5]])
def test_any_other_strength_is_an_error(alpha: object) -> None:
    with pytest.raises(RecipeError, match=r"here: must be 'search' or a number above 0"):
        check_alpha(alpha, "here")
