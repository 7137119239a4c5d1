"""The results of an evaluation in one table, a line a model: what terminals and READMEs show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.eval.metrics.verdicts import LEVELS
from quant.eval.report.overall import Overall, overall
from quant.eval.report.recorded import stored_share
from quant.eval.report.table import Table, decibels, megabytes
from quant.eval.report.words import level_text, number, share

#: metric, heading, digits after the point, whether its interval is shown
_COLUMNS = (
    ("psnr", "PSNR dB", 1, True),
    ("ssim", "SSIM", 3, True),
    ("temporal_psnr", "temporal", 1, False),
    ("lpips_alex", "LPIPS alex", 3, False),
    ("lpips_vgg", "LPIPS vgg", 3, False),
    ("judged", "as asked", 3, False),
    ("clip_frame", "CLIP frame", 3, False),
    ("clip_prompt", "CLIP prompt", 3, False),
)


def summary(results: Mapping[str, Any]) -> Table:
    """The original first; columns that no model has a figure for are left out.

    Args:
        results: those of `results.json`.
    """
    models = results["models"]
    columns = [column for column in _COLUMNS if any(column[0] in model["summary"] for model in models)]
    headings = ["model", "scheme", *(f"within {level_text(level)}" for level in LEVELS), "stored", "of bf16"]
    headings += [heading for _, heading, _, _ in columns]
    if results["speed"] is not None:
        headings.append("s/step")
    return Table(tuple(headings), tuple(_row(model, columns, results["speed"]) for model in models), words=4)


def notes(results: Mapping[str, Any]) -> list[str]:
    """What the figures of the table mean, a sentence a line."""
    count = number(len(results["samples"]), "sample")
    lines = [
        f"{count}, same seeds and initial latents; in brackets the 95% interval over them. PSNR, SSIM, "
        "temporal PSNR and LPIPS are of each video against the original's.",
        "within: all metrics' losses to the original are below that, with the interval taken into account.",
    ]
    if results["speed"] is not None:
        lines.append(f"s/step: one denoising step of one video, {results['speed']['label']}.")
    return lines


def _row(
    model: Mapping[str, Any], columns: list[tuple[str, str, int, bool]], speed: Mapping[str, Any] | None
) -> tuple[str, ...]:
    stored, part = model["stored_bytes"], stored_share(model)
    verdicts = ["failed" if model.get("failed") else _verdict(overall(model, level)) for level in LEVELS]
    cells = [model["name"], model["scheme"], *verdicts]
    cells += ["-" if stored is None else megabytes(stored), "-" if part is None else share(part)]
    cells += [_cell(model["summary"].get(metric), digits, interval) for metric, _, digits, interval in columns]
    if speed is not None:
        stages = speed["models"].get(model["name"], {}).get("stages") or {}
        median = (stages.get("step") or {}).get("median")
        cells.append("-" if median is None else f"{median:.3f}")
    return tuple(cells)


def _verdict(found: Overall | None) -> str:
    """`pass` where every metric passes; else how many fail, or have too few samples."""
    if found is None or found.verdict == "pass":
        return "-" if found is None else "pass"
    words = "few samples" if found.verdict == "not enough samples" else found.verdict
    return f"{words} ({len(found.metrics)} of {found.judged})"


def _cell(estimate: Mapping[str, Any] | None, digits: int, interval: bool) -> str:
    if estimate is None:
        return "-"
    identical = estimate.get("identical", 0)
    if estimate["value"] is None:
        return decibels(float("inf")) if identical else "-"
    text = f"{estimate['value']:.{digits}f}"
    if interval and estimate["low"] is not None:
        text += f" [{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"
    return f"{text}, {identical} identical" if identical else text
