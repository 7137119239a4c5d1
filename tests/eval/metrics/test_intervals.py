from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.eval.metrics.intervals import Estimate, mean_estimate, paired_ratio

_VALUES = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30)


@given(values=_VALUES)
@settings(max_examples=40)
def test_the_mean_lies_in_its_interval_and_that_within_the_values(values: list[float]) -> None:
    found = mean_estimate(values, resamples=200)
    assert found == mean_estimate(values, resamples=200)
    assert found.value == pytest.approx(math.fsum(values) / len(values))
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= found.low
    assert found.high <= max(values) + slack


def test_about_95_of_100_intervals_hold_the_true_mean_and_are_as_wide_as_the_normal_law_says() -> None:
    generator = np.random.default_rng(0)
    samples = generator.normal(3, 2, size=(300, 40))
    found = [mean_estimate(list(row), resamples=300) for row in samples]
    covered = [e.low <= 3 <= e.high for e in found if e.low is not None and e.high is not None]
    assert len(covered) == 300
    assert 0.9 <= np.mean(covered) <= 0.98
    widths = [e.high - e.low for e in found if e.low is not None and e.high is not None]
    assert np.mean(widths) == pytest.approx(2 * 1.96 * 2 / math.sqrt(40), rel=0.08)


def test_pairs_make_the_ratio_narrower() -> None:
    generator = np.random.default_rng(1)
    original = generator.uniform(0.5, 1.5, 60)
    candidate = 0.9 * original + generator.normal(0, 0.01, 60)
    together = paired_ratio(list(candidate), list(original))
    apart = paired_ratio(list(generator.permutation(candidate)), list(original))
    assert together.value == pytest.approx(0.9, abs=0.01)
    assert _width(together) * 5 < _width(apart)


def test_too_few_samples_have_no_interval() -> None:
    assert mean_estimate([]) == Estimate(None, None, None, 0)
    assert mean_estimate([2.5]).to_dict() == {"value": 2.5, "low": None, "high": None, "n": 1}
    assert paired_ratio([1.0], [2.0]) == Estimate(0.5, None, None, 1)


def test_a_ratio_to_nothing_has_no_value() -> None:
    assert paired_ratio([1.0, 2.0], [0.0, 0.0]) == Estimate(None, None, None, 2)
    assert paired_ratio([1.0, 2.0], [0.0, 1.0]) == Estimate(3.0, None, None, 2)


def test_what_is_no_number_or_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_estimate([1.0, math.inf])
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_ratio([1.0], [1.0, 2.0])


def _width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low
