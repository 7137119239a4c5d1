"""Exact intervals and tests, against SciPy's, which finds the same from special functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quant.eval.metrics.exact import (
    at_least,
    share_estimate,
    sign_test,
    student_estimate,
    student_quantile,
    student_test,
    student_within,
)
from quant.eval.metrics.intervals import Estimate


@given(count=st.integers(1, 200), data=st.data(), level=st.floats(0.5, 0.999))
@settings(max_examples=40)
def test_a_share_has_the_interval_of_clopper_and_pearson(count: int, data: st.DataObject, level: float) -> None:
    hits = data.draw(st.integers(0, count))
    found = share_estimate(hits, count, level=level)
    expected = stats.binomtest(hits, count).proportion_ci(level, method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert (found.value, found.n) == (hits / count, count)


def test_all_of_sixteen_may_still_be_four_fifths_of_all() -> None:
    found = share_estimate(16, 16)
    assert found.low == pytest.approx(0.025 ** (1 / 16)) and (found.value, found.high) == (1, 1)
    assert share_estimate(0, 16).high == pytest.approx(1 - 0.025 ** (1 / 16))


@given(count=st.integers(0, 60), hits=st.integers(-1, 61), share=st.floats(0, 1))
@settings(max_examples=40)
def test_the_tail_of_the_binomial_law(count: int, hits: int, share: float) -> None:
    assert at_least(hits, count, share) == pytest.approx(stats.binom.sf(hits - 1, count, share), abs=1e-12)


@given(more=st.integers(0, 300), less=st.integers(0, 300))
@settings(max_examples=40)
def test_signs_are_tossed_coins(more: int, less: int) -> None:
    expected = stats.binomtest(more, more + less).pvalue if more + less else 1.0
    assert sign_test(more, less) == pytest.approx(expected, rel=1e-9)
    assert sign_test(less, more) == sign_test(more, less)


@given(freedom=st.integers(1, 300), t=st.floats(0, 50), level=st.floats(0.01, 0.999))
@settings(max_examples=40)
def test_students_law(freedom: int, t: float, level: float) -> None:
    assert student_within(t, freedom) == pytest.approx(1 - 2 * stats.t.sf(t, freedom), abs=1e-12)
    assert student_quantile(freedom, level) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-9)


@given(values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30))
@settings(max_examples=40)
def test_students_interval_and_test(values: list[float]) -> None:
    found, probability = student_estimate(values), student_test(values)
    array = np.array(values)
    assert found.low is not None and found.high is not None and found.value is not None
    assert found.low <= found.value <= found.high
    if array.std() <= 1e-9 * np.abs(array).max():  # SciPy takes no care of a sum's rounding
        return
    low, high = stats.t.interval(0.95, array.size - 1, array.mean(), stats.sem(array))
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-9 * np.abs(array).max())
    assert probability == pytest.approx(stats.ttest_1samp(array, 0).pvalue, abs=1e-9)


def test_about_95_of_100_intervals_of_five_values_hold_the_true_mean() -> None:
    """A bootstrap's would be about 83."""
    samples = np.random.default_rng(0).normal(3, 2, size=(2000, 5))
    found = [student_estimate(list(row)) for row in samples]
    assert np.mean([e.low <= 3 <= e.high for e in found if e.low is not None and e.high is not None]) == pytest.approx(
        0.95, abs=0.015
    )


def test_too_few_or_equal_values_are_not_tested() -> None:
    assert student_estimate([]) == Estimate(None, None, None, 0)
    assert student_estimate([2.5]) == Estimate(2.5, None, None, 1)
    assert student_estimate([0.7] * 9) == Estimate(0.7, 0.7, 0.7, 9)
    assert student_test([]) is student_test([1.0]) is student_test([0.7] * 9) is None
    assert share_estimate(0, 0) == Estimate(None, None, None, 0)
    assert sign_test(0, 0) == 1


def test_what_is_no_share_no_level_and_no_number_is_refused() -> None:
    for hits, count in ((-1, 4), (5, 4)):
        with pytest.raises(ValueError, match="is no share"):
            share_estimate(hits, count)
    for level in (0.0, 1.0, 95.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            share_estimate(1, 2, level=level)
        with pytest.raises(ValueError, match="between 0 and 1"):
            student_estimate([1.0, 2.0], level=level)
    with pytest.raises(ValueError, match="finite"):
        student_test([1.0, math.nan])
