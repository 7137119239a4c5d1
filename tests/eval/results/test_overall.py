from __future__ import annotations

from typing import Any

from quant.eval.results.overall import overall


def model(*verdicts: str) -> dict[str, Any]:
    pairs = zip(("psnr", "ssim", "lpips_alex"), verdicts, strict=False)
    return {"verdicts": [{"metric": key, "level": 0.01, "verdict": verdict} for key, verdict in pairs]}


def test_the_worst_verdict_of_all_metrics_decides() -> None:
    assert overall(model("pass", "pass", "pass"), 0.01) == ("pass", ("psnr", "ssim", "lpips_alex"), 3)
    assert overall(model("pass", "not enough samples", "pass"), 0.01) == ("not enough samples", ("ssim",), 3)
    assert overall(model("fail", "not enough samples", "fail"), 0.01) == ("fail", ("psnr", "lpips_alex"), 3)
    assert overall(model("pass"), 0.001) is None
