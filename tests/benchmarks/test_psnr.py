from __future__ import annotations

import math

import pytest

from benchmarks.psnr import PsnrSummary, summarize


@pytest.mark.parametrize(
    ("values", "summary"),
    [
        ((30.0, 20.0, 40.0), PsnrSummary(30.0, 20.0, 0)),
        ((30.0, math.inf, 20.0), PsnrSummary(25.0, 20.0, 1)),
        ((math.inf, math.inf), PsnrSummary(math.inf, math.inf, 2)),
        ((-3.0,), PsnrSummary(-3.0, -3.0, 0)),
    ],
)
def test_identical_videos_are_counted_and_left_out_of_the_mean(values: tuple[float, ...], summary: PsnrSummary) -> None:
    assert summarize(values) == summary


def test_there_must_be_something_to_summarize() -> None:
    with pytest.raises(ValueError, match="nothing to summarize"):
        summarize([])
