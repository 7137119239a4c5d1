from __future__ import annotations

import pytest

from quant.eval.metrics.intervals import MIN_SAMPLES, verdict
from quant.eval.metrics.table import loss_of


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
