from __future__ import annotations

import numpy as np
import pytest

from quant.eval.report.amplification import amplification, to_bytes


def test_bytes_are_rounded_and_clipped() -> None:
    values = np.array([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 127.4 / 255, 1.0, 2.0], dtype=np.float32)
    assert to_bytes(values).tolist() == [0, 0, 0, 1, 127, 255, 255]


@pytest.mark.parametrize(
    ("difference", "factor"), [(1.0, 1), (0.6, 1), (0.5, 2), (0.3, 2), (0.1, 8), (0.01, 64), (1e-6, 256), (0.0, 256)]
)
def test_a_typical_difference_becomes_half_to_all_of_the_range(difference: float, factor: int) -> None:
    differences = [np.full((2, 3, 4, 4, 3), difference, dtype=np.float32)]
    assert amplification(differences) == factor
    assert difference < 0.5 / 256 or 0.5 <= difference * factor <= 1


def test_one_broken_video_does_not_darken_the_others() -> None:
    differences = np.full((5, 3, 4, 4, 3), 0.1, dtype=np.float32)
    differences[0] = 1
    assert amplification([differences]) == 8


def test_one_factor_is_for_every_model() -> None:
    models = [np.full((2, 3, 4, 4, 3), value, dtype=np.float32) for value in (0.1, 0.1, 0.9)]
    assert amplification(models) == 8
    assert amplification([]) == 256
