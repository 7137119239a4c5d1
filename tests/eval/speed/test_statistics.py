"""A few figures, against NumPy's."""

from __future__ import annotations

import json

import numpy as np
import pytest

from quant.eval.speed.stages import summary


@pytest.mark.parametrize("count", [2, 3, 5, 10, 11, 100])
def test_numpy_has_the_same_figures(count: int) -> None:
    seconds = np.random.default_rng(count).lognormal(size=count)
    found = summary(seconds.tolist())
    assert found["median"] == pytest.approx(np.median(seconds))
    assert found["p90"] == pytest.approx(np.quantile(seconds, 0.9))
    assert found["cv"] == pytest.approx(seconds.std(ddof=1) / seconds.mean())
    assert (found["n"], found["seconds"]) == (count, seconds.tolist())


def test_one_value_has_no_spread() -> None:
    assert summary([2.0]) == {"median": 2.0, "p90": 2.0, "cv": None, "n": 1, "seconds": [2.0]}


@pytest.mark.parametrize("seconds", [[], [0.0, 0.0]])
def test_what_values_do_not_have_is_null_in_json(seconds: list[float]) -> None:
    found = json.loads(json.dumps(summary(seconds), allow_nan=False))
    assert found["cv"] is None
    assert found["median"] == (0.0 if seconds else None)
