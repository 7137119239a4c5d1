from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from quant.eval.metrics.base import check_features


def test_features_come_back_in_float64() -> None:
    one, other = check_features(np.ones((2, 3), dtype=np.float32), np.zeros((4, 3), dtype=np.float16))
    assert one.dtype == other.dtype == np.dtype(np.float64)
    assert (one.shape, other.shape) == ((2, 3), (4, 3))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.ones((2, 3)), np.ones((2, 4)), "cannot be compared"),
        (np.ones(3), np.ones((2, 3)), "cannot be compared"),
        (np.ones((2, 0)), np.ones((2, 0)), "cannot be compared"),
        (np.ones((2, 3)), np.ones((1, 3)), "two or more are needed"),
        (np.ones((2, 3)), np.full((2, 3), np.nan), "not finite"),
    ],
)
def test_what_is_no_set_is_refused(
    first: npt.NDArray[np.float64], second: npt.NDArray[np.float64], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check_features(first, second)
