from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from quant.eval.metrics import frechet
from quant.eval.metrics.frechet import frechet_distance, fvd


def _normal(n: int, d: int, seed: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize(("n", "d"), [(40, 6), (8, 30)])
@pytest.mark.parametrize("ddof", [0, 1])
def test_twice_the_features_plus_three_in_closed_form(n: int, d: int, ddof: int) -> None:
    x = _normal(n, d, 0)
    shift = x.mean(axis=0) + 3
    expected = shift @ shift + x.var(axis=0, ddof=ddof).sum()
    assert frechet_distance(x, 2 * x + 3, ddof=ddof) == pytest.approx(expected, rel=1e-12)


def test_commuting_covariances_in_closed_form() -> None:
    """Centred orthonormal columns, scaled: the sample covariances are diagonal in one basis."""
    centred = _normal(50, 5, 1)
    columns = np.linalg.qr(centred - centred.mean(axis=0))[0]
    basis = np.linalg.qr(_normal(5, 5, 2))[0]
    one, other = np.array([1.0, 2, 3, 4, 5]), np.array([5.0, 1, 2, 0, 7])
    a = columns * one * 7 @ basis
    b = np.roll(columns, 3, axis=0) * other * 7 @ basis  # other samples; 7 is the root of N - 1
    assert frechet_distance(a, b) == pytest.approx(np.sum((one - other) ** 2), rel=1e-10)


def test_it_is_what_a_matrix_square_root_gives() -> None:
    from scipy.linalg import sqrtm

    a, b = _normal(300, 6, 3), _normal(200, 6, 4) @ np.diag([1, 2, 3, 1, 1, 0.5]) + 1
    one, other = np.cov(a.T), np.cov(b.T)
    shift = a.mean(axis=0) - b.mean(axis=0)
    expected = shift @ shift + np.trace(one + other - 2 * np.real(sqrtm(one @ other)))
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [10, 100])
def test_a_set_is_at_no_distance_from_itself(n: int) -> None:
    x = _normal(n, 40, 5).astype(np.float32)
    assert frechet_distance(x, x) < 1e-9


def test_the_interval_is_about_the_value_and_not_inflated() -> None:
    """40 sets of the same law: the interval's mean width is near the true spread of the distance."""
    distances = []
    widths = []
    for seed in range(40):
        found = fvd(_normal(100, 8, 2 * seed), _normal(100, 8, 2 * seed + 1) + 1, paired=False, repeats=40)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= found.value <= found.high
        distances.append(found.value)
        widths.append(found.high - found.low)
    true = np.subtract(*np.quantile(distances, [0.975, 0.025]))
    assert 0.6 * true < np.mean(widths) < 1.5 * true


def test_extrapolation_takes_the_bias_away() -> None:
    found = [fvd(_normal(128, 16, 2 * s), _normal(128, 16, 2 * s + 1), paired=False, repeats=24) for s in range(8)]
    biased = np.mean([one.value for one in found])
    extrapolated = np.mean([one.extrapolated for one in found if one.extrapolated is not None])
    assert biased > 0.4
    assert abs(extrapolated) < 0.2 * biased


def test_halves_smaller_than_the_dimension_are_on_no_line() -> None:
    """At N = 33 and D = 32 such a line would end at a fourth of the value, where the truth is 0."""
    assert fvd(_normal(64, 32, 0), _normal(64, 32, 1), paired=False, repeats=4).extrapolated is None
    assert fvd(_normal(66, 32, 0), _normal(66, 32, 1), paired=False, repeats=4).extrapolated is not None


def test_intervals_and_extrapolation_are_of_parts_without_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole sets are at distance 10; their 100 halves at 0, 1, ... 99, and larger parts where halves are on the
    mean: 49.5."""
    asked: list[tuple[int, int, int]] = []

    def distance(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], *, ddof: int = 1) -> float:
        assert len(set(a[:, 0])) == len(a) and len(set(b[:, 0])) == len(b)
        asked.append((len(a), len(b), ddof))
        return 10.0 if len(a) == 20 else float(len(asked) - 2) if len(a) == 10 else 49.5

    monkeypatch.setattr(frechet, "frechet_distance", distance)
    found = fvd(_normal(20, 3, 0), _normal(40, 3, 1), paired=False, ddof=0)
    assert asked == [(20, 40, 0), *[(10, 20, 0)] * 100, *[(12, 24, 0)] * 25, *[(15, 30, 0)] * 25]
    assert (found.value, found.n, found.dimension) == (10, 20, 3)
    # The middle 95 of 99 lie within 47.025 of their mean; a distance is not below 0.
    assert (found.low, found.high) == pytest.approx((0, 10 + 47.025))
    line = np.polyfit([2, 1 / 0.6, 1 / 0.75, 1], [49.5, 49.5, 49.5, 10], 1)
    assert found.extrapolated == pytest.approx(line[1])


def test_the_seed_decides_on_the_parts() -> None:
    sets = _normal(20, 4, 0), _normal(20, 4, 1)
    first = fvd(*sets, paired=False, repeats=4)
    assert first == fvd(*sets, paired=False, repeats=4, seed=0)
    assert first.low != fvd(*sets, paired=False, repeats=4, seed=1).low


def test_how_many_videos_have_an_interval_and_are_enough() -> None:
    def few(n: int, paired: bool, dimension: int = 12) -> frechet.Distance:
        return fvd(_normal(n, dimension, 0), _normal(n, dimension, 1), paired=paired, repeats=4)

    assert few(3, paired=True).low is few(3, paired=True).high is None
    assert few(4, paired=True).low is not None
    assert few(4, paired=True).enough and not few(3, paired=True).enough  # 0.3 D = 3.6
    assert few(13, paired=False).enough and not few(12, paired=False).enough


def test_few_videos_are_warned_of_and_not_extrapolated() -> None:
    found = fvd(_normal(32, 400, 0), _normal(32, 400, 1), paired=False, repeats=4)
    assert found.extrapolated is None
    assert not found.enough
    assert found.warning.startswith("N = 32 videos in D = 400 dimensions: ")
    assert found.warning.endswith("read paired metrics")
    assert fvd(_normal(9, 8, 0), _normal(9, 8, 1), paired=False, repeats=4).warning == ""


def test_pairs_stay_pairs() -> None:
    """Halves of a set and of the same set moved are at the same distance only where rows stay together."""
    x = _normal(40, 4, 6)
    together = fvd(x, x + 2, paired=True, repeats=20)
    apart = fvd(x, x + 2, paired=False, repeats=20)
    assert (together.low, together.high) == pytest.approx((16, 16))
    # Where all halves are at one distance, rounding decides on which side of it the value is.
    for found in (fvd(x, x + 2 + shift, paired=True, repeats=20) for shift in np.linspace(0, 3, 30)):
        assert found.low is not None and found.high is not None
        assert found.low <= found.value <= found.high
    assert apart.high is not None
    assert apart.high > 16.1
    with pytest.raises(ValueError, match="no pairs"):
        fvd(x, x[:-1], paired=True)


def test_what_has_no_covariance_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        frechet_distance(_normal(1, 4, 0), _normal(5, 4, 1))
    with pytest.raises(ValueError, match="cannot be compared"):
        frechet_distance(_normal(5, 3, 0), _normal(5, 4, 1))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(_normal(5, 3, 0), np.full((5, 3), np.nan))
