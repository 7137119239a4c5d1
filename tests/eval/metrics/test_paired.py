from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from quant.eval.metrics.intervals import MIN_SAMPLES, Estimate
from quant.eval.metrics.paired import RISK, Comparison, compared, holm, outcomes

_P = st.lists(st.floats(0, 1), min_size=1, max_size=12)
_SCORES = st.lists(st.tuples(*[st.one_of(st.floats(-100, 100), st.just(math.inf))] * 2), min_size=1, max_size=20)


@given(probabilities=_P)
def test_holms_correction_rejects_what_his_steps_do(probabilities: list[float]) -> None:
    """The smallest at risk / m, the next at risk / (m - 1), until one is above."""
    order = sorted(range(len(probabilities)), key=lambda place: probabilities[place])
    for risk in (0.05, 0.3):
        rejected = set()
        for rank, place in enumerate(order):
            if probabilities[place] * (len(order) - rank) > risk:
                break
            rejected.add(place)
        assert {place for place, each in enumerate(holm(probabilities)) if each <= risk} == rejected


def test_holms_example() -> None:
    """R's p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm")."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(pairs=_SCORES, higher=st.booleans())
@settings(max_examples=50)
def test_the_other_way_round_says_the_opposite(pairs: list[tuple[float, float]], higher: bool) -> None:
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    found, turned = compared(ours, theirs, higher=higher), compared(theirs, ours, higher=higher)
    assert found.reversed() == turned and turned.reversed() == found
    opposite = {"better": "worse", "worse": "better"}
    (one,), (other,) = outcomes([found]), outcomes([turned])
    assert opposite.get(one, one) == other
    lower = compared([-each for each in ours], [-each for each in theirs], higher=not higher)
    assert (lower.better, lower.worse, lower.direction) == (found.better, found.worse, found.direction)


def test_a_comparison_has_scipys_figures() -> None:
    generator = np.random.default_rng(3)
    theirs = generator.normal(30, 8, 64)  # hard samples are hard for both
    ours = theirs + generator.normal(1, 2, 64)
    found, differences = compared(list(ours), list(theirs)), ours - theirs
    low, high = stats.t.interval(0.95, 63, differences.mean(), stats.sem(differences))
    assert found.difference.value == pytest.approx(differences.mean())
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high))
    better = int((differences > 0).sum())
    assert (found.better, found.worse, found.samples, found.direction) == (better, 64 - better, 64, 1)
    tests = stats.binomtest(better, 64).pvalue, stats.ttest_1samp(differences, 0).pvalue
    assert found.probability == pytest.approx(2 * min(tests))
    assert outcomes([found]) == ["better"]
    assert outcomes([compared(list(ours), list(theirs), higher=False)]) == ["worse"]


def test_where_all_are_ties_a_table_says_so_19_times_in_20() -> None:
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(100):
        table = [compared(list(generator.standard_t(3, 20)), [0.0] * 20) for _ in range(10)]
        wrong += set(outcomes(table)) != {"tie"}
    assert wrong <= 0.1 * 100  # 5% within its own error


def test_one_of_many_needs_to_be_clearer_than_one_alone() -> None:
    one = Comparison(Estimate(1.0, 0.5, 1.5, 20), 16, 4, 20, 1, 0.02)
    assert outcomes([one]) == ["better"]
    none = replace(one, probability=0.8)
    assert outcomes([one, none, none]) == ["tie"] * 3
    assert outcomes([replace(one, probability=0.02 / 3), none, none]) == ["better", "tie", "tie"]
    # Those that decide nothing anyhow do not count.
    assert outcomes([one, *[replace(one, samples=MIN_SAMPLES - 1)] * 5]) == ["better", *["not enough samples"] * 5]
    assert outcomes([]) == []


def test_mean_and_majority_that_contradict_each_other_are_a_tie() -> None:
    found = compared([1.0] * 30 + [-100.0] * 2, [0.0] * 32)
    assert (found.better, found.worse, found.probability) == (30, 2, 1.0)
    assert found.difference.value is not None and found.difference.value < 0
    assert outcomes([found]) == ["tie"]


def test_a_mean_decides_where_the_majority_does_not() -> None:
    found = compared([5.0, 6.0] * 10 + [-0.1, -0.2] * 10, [0.0] * 40)
    assert (found.better, found.worse, found.direction) == (20, 20, 1)
    assert found.probability < RISK and outcomes([found]) == ["better"]


def test_identical_videos_count_and_are_in_no_mean() -> None:
    found = compared([math.inf] * 9 + [math.inf, 40.0], [50.0] * 9 + [math.inf, 39.0])
    assert (found.better, found.worse, found.samples) == (10, 0, 11)
    assert found.difference == Estimate(0.5, *(found.difference.low, found.difference.high), 2)
    only = compared([math.inf] * 9, [50.0] * 9)
    assert only.difference == Estimate(None, None, None, 0) and outcomes([only]) == ["better"]


def test_samples_that_are_alike_count_as_one() -> None:
    ours, prompts = [1.0, 3.0, -1.0, math.inf, math.inf, 2.0], ["a", "a", "b", "c", "d", "d"]
    theirs = [0.0, 0.0, 0.0, 0.0, 0.0, math.inf]
    found = compared(ours, theirs, alike=prompts)
    # a: 2, b: -1, c: infinite, d: neither
    assert (found.better, found.worse, found.samples, found.difference.n) == (2, 1, 4, 3)
    assert found.difference.value == pytest.approx(1 / 3)
    # Noise of one prompt twice proves no more than once.
    once = compared(list(range(1, 10)), [0.0] * 9)
    assert compared([*range(1, 10)] * 5, [0.0] * 45, alike=[*range(9)] * 5) == once


def test_what_is_no_pair_is_refused() -> None:
    for ours, theirs in (([1.0], [1.0, 2.0]), ([], [])):
        with pytest.raises(ValueError, match="cannot be paired"):
            compared(ours, theirs)
    with pytest.raises(ValueError, match="cannot be paired"):
        compared([1.0, 2.0], [1.0, 2.0], alike=["a"])
    with pytest.raises(ValueError, match="no number"):
        compared([math.nan], [1.0])
