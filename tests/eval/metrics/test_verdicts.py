from __future__ import annotations

import pytest

from quant.eval.metrics.intervals import Estimate
from quant.eval.metrics.verdicts import LEVELS, MIN_SAMPLES, loss_of, verdict


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


def test_an_error_of_one_percent_is_40_db_and_identical_is_none() -> None:
    assert loss_of("psnr", [40.0] * 3, None).high == pytest.approx(0.01)
    assert loss_of("temporal_psnr", [60.0, None], None).value == pytest.approx(0.0005)
    assert verdict(loss_of("psnr", [None] * MIN_SAMPLES, None), 0.001) == "pass"


def test_other_paired_metrics_are_losses_by_themselves() -> None:
    assert loss_of("ssim", [0.98, 1.0], None).value == pytest.approx(0.01)
    assert loss_of("lpips_alex", [0.2, 0.4], None).value == pytest.approx(0.3)


def test_own_metrics_are_relative_to_the_originals() -> None:
    loss = loss_of("clip_prompt", [0.27, 0.33], [0.3, 0.3])
    assert (loss.value, loss.low, loss.high) == pytest.approx((0.0, -0.1, 0.1))
    assert loss_of("judged", [0.5, 0.5], [1.0, 1.0]).low == pytest.approx(0.5)


def test_what_has_no_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="original's own values"):
        loss_of("clip_frame", [1.0], None)
    with pytest.raises(ValueError, match="1 samples have no ssim"):
        loss_of("ssim", [None, 1.0], None)
    with pytest.raises(ValueError, match="no loss by 'fvd'"):
        loss_of("fvd", [1.0], None)
