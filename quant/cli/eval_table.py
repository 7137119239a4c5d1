"""The results of an evaluation as a table: a line a model, paired metrics with their intervals, verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.cli.tables import aligned

#: metric, heading, digits
_COLUMNS = (
    ("psnr", "PSNR dB", 1),
    ("ssim", "SSIM", 3),
    ("temporal_psnr", "flicker PSNR dB", 1),
    ("lpips_alex", "LPIPS alex", 3),
    ("lpips_vgg", "LPIPS vgg", 3),
    ("clip_frame", "CLIP frames", 3),
    ("clip_prompt", "CLIP prompt", 3),
    ("judged", "judged", 3),
)


def score_table(results: Mapping[str, Any]) -> str:
    """One line a model, the original first; a metric is `mean [low, high]` of a 95% interval."""
    heads = ("", "scheme", *(heading for _, heading, _ in _COLUMNS), "within 1%", "within 0.1%")
    rows = [heads, *(_row(model) for model in results["models"])]
    count = len(results["samples"])
    return "\n".join([*aligned(rows, figures=range(2, 10)), "", f"{count} samples; 95% intervals over them"])


def _row(model: Mapping[str, Any]) -> tuple[str, ...]:
    cells = [_cell(model["summary"].get(metric), digits) for metric, _, digits in _COLUMNS]
    return (model["name"], model["scheme"], *cells, _verdict(model, 0.01), _verdict(model, 0.001))


def _cell(estimate: Mapping[str, Any] | None, digits: int) -> str:
    if estimate is None:
        return ""
    identical = estimate.get("identical", 0)
    if estimate["value"] is None:
        return "identical" if identical else ""
    text = f"{estimate['value']:.{digits}f}"
    if estimate["low"] is not None and estimate["high"] is not None:
        text += f" [{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"
    return f"{text}, {identical} identical" if identical else text


def _verdict(model: Mapping[str, Any], level: float) -> str:
    """`pass` where all metrics pass; else how many fail, or that samples are too few."""
    found = [each["verdict"] for each in model["verdicts"] if each["level"] == level]
    if not found:
        return ""
    failed = found.count("fail")
    if failed:
        return f"fail ({failed} of {len(found)})"
    return "pass" if set(found) == {"pass"} else f"not enough samples ({found.count('not enough samples')})"
