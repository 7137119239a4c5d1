from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant.eval.metrics import intervals
from quant.eval.metrics.intervals import LEVELS, MIN_SAMPLES, Estimate, mean_estimate, paired_ratio, verdict

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


@pytest.mark.parametrize("held", [1, 7 * 40, 1 << 20])
def test_an_interval_does_not_depend_on_how_much_is_held_at_a_time(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(0).normal(size=40))
    expected = mean_estimate(values, resamples=50), paired_ratio(values, [2.0] * 40, resamples=50)
    monkeypatch.setattr(intervals, "_CHUNK", held)
    assert (mean_estimate(values, resamples=50), paired_ratio(values, [2.0] * 40, resamples=50)) == expected


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_the_interval_holds_as_much_as_its_level_says(level: float) -> None:
    """Of a normal law's mean by its own quantiles; here of 2,000 resampled means of 400 values."""
    values = list(np.random.default_rng(0).normal(size=400))
    half = NormalDist().inv_cdf((1 + level) / 2) * np.std(values) / math.sqrt(400)
    found = mean_estimate(values, level=level)
    assert found.low is not None and found.high is not None and found.value is not None
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.15 * half)


def test_a_level_that_is_no_share_is_refused() -> None:
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            mean_estimate([1.0, 2.0], level=level)


def test_equal_values_lie_in_their_interval_whatever_the_rounding() -> None:
    for count in range(2, 20):
        for found in (mean_estimate([0.7] * count), paired_ratio([0.7] * count, [0.3] * count)):
            assert found.low is not None and found.value is not None and found.high is not None
            assert found.low <= found.value <= found.high


def test_too_few_samples_have_no_interval() -> None:
    assert mean_estimate([]) == Estimate(None, None, None, 0)
    assert mean_estimate([2.5]).to_dict() == {"value": 2.5, "low": None, "high": None, "n": 1}
    assert paired_ratio([1.0], [2.0]) == Estimate(0.5, None, None, 1)


def test_a_ratio_to_nothing_has_no_value() -> None:
    assert paired_ratio([1.0, 2.0], [0.0, 0.0]) == Estimate(None, None, None, 2)
    assert paired_ratio([1.0, 2.0], [1.0, -2.0]) == Estimate(None, None, None, 2)
    assert paired_ratio([1.0, 2.0], [0.0, 1.0]) == Estimate(3.0, None, None, 2)
    assert paired_ratio([], []) == Estimate(None, None, None, 0)


def test_what_is_no_number_or_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_estimate([1.0, math.inf])
    with pytest.raises(ValueError, match="cannot be paired"):
        paired_ratio([1.0], [1.0, 2.0])


def _width(estimate: Estimate) -> float:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.high - estimate.low


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 0.01, "pass"),
        (0.0, 0.011, "not enough samples"),
        (0.01, 0.02, "not enough samples"),
        (0.011, 0.02, "fail"),
        (-0.2, -0.1, "pass"),
        (None, None, "not enough samples"),
    ],
)
def test_only_the_whole_interval_decides(low: float | None, high: float | None, expected: str) -> None:
    assert verdict(Estimate(0.01, low, high, MIN_SAMPLES), LEVELS[0]) == expected


def test_the_gates_are_99_and_99_9_percent_of_eight_samples_or_more() -> None:
    assert (LEVELS, MIN_SAMPLES) == ((0.01, 0.001), 8)


def test_few_samples_decide_nothing_however_alike_they_are() -> None:
    for low in (0.0, 0.5):
        assert verdict(Estimate(low, low, low, MIN_SAMPLES - 1), LEVELS[0]) == "not enough samples"
