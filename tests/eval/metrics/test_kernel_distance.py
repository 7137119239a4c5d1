from __future__ import annotations

import numpy as np
import pytest

from quant.eval.metrics.kernel_distance import polynomial_mmd


def test_a_small_case_by_hand() -> None:
    """D = 1. Within {0, 1}: k = 1. Within {2, 3}: 7³. Across: 1, 1, 3³, 4³, whose mean is 93 / 4."""
    found = polynomial_mmd(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]]))
    assert found == pytest.approx(1 + 343 - 2 * 93 / 4)


def test_products_are_divided_by_the_dimension() -> None:
    """D = 2. Within {(0, 0), (2, 0)}: 1. Within {(0, 2), (2, 2)}: (4 / 2 + 1)³. Across: 1, 1, 1, (4 / 2 + 1)³."""
    found = polynomial_mmd(np.array([[0.0, 0], [2, 0]]), np.array([[0.0, 2], [2, 2]]))
    assert found == pytest.approx(1 + 27 - 2 * (3 + 27) / 4)


@pytest.mark.parametrize("n", [8, 32, 128])
def test_sets_of_the_same_law_are_at_no_distance_at_any_size(n: int) -> None:
    generator = np.random.default_rng(n)
    found = [polynomial_mmd(*generator.standard_normal((2, n, 32))) for _ in range(200)]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found)) < 4 * error
    moved = polynomial_mmd(generator.standard_normal((n, 32)), generator.standard_normal((n, 32)) + 1)
    assert moved > 5 * np.std(found)


def test_pairs_that_are_nearly_equal_are_at_no_distance_and_moved_ones_are() -> None:
    generator = np.random.default_rng(0)
    found, moved = [], []
    for _ in range(100):
        first = generator.standard_normal((8, 32))
        second = first + 0.1 * generator.standard_normal((8, 32)) / np.sqrt(1.01)
        found.append(polynomial_mmd(first, second, paired=True))
        moved.append(polynomial_mmd(first, second + 0.5, paired=True))
        assert polynomial_mmd(first, second) < found[-1]  # what leaving the pairs in would do
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))
    assert np.mean(moved) > 4 * np.std(moved) / np.sqrt(len(moved))
    assert polynomial_mmd(first, first, paired=True) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="8 and 7 feature vectors are no pairs"):
        polynomial_mmd(first, first[:7], paired=True)


def test_one_video_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        polynomial_mmd(np.zeros((1, 3)), np.zeros((4, 3)))
