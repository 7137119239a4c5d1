"""The results of an evaluation in one table, a line a model: what terminals and READMEs show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quant.eval.metrics.base import Display
from quant.eval.metrics.table import metrics, ordered
from quant.eval.metrics.verdicts import LEVELS
from quant.eval.results.overall import Overall, overall
from quant.eval.results.recorded import stored_share
from quant.eval.results.words import level_text, number, share
from quant.eval.tables import Table, decibels, megabytes

#: Digits after the point at most.
_DIGITS = 3


def summary(results: Mapping[str, Any]) -> Table:
    """The original first; columns that no model has a figure for are left out.

    Args:
        results: those of `results.json`.
    """
    models = results["models"]
    taken = {key for model in models for key in model["summary"]}
    columns = ordered(metric.key for metric in metrics() if metric.key in taken)
    headings = ["model", "scheme", *(f"within {level_text(level)}" for level in LEVELS), "stored", "of bf16"]
    headings += [shown.heading or shown.title for shown in columns]
    if results["speed"] is not None:
        headings.append("s/step")
    return Table(tuple(headings), tuple(_row(model, columns, results["speed"]) for model in models), words=4)


def notes(results: Mapping[str, Any]) -> list[str]:
    """What the figures of the table mean, a sentence a line."""
    *most, last = dict.fromkeys(metric.short for metric in metrics("paired") if metric.short)
    count = number(len(results["samples"]), "sample")
    lines = [
        f"{count}, same seeds and initial latents; in brackets the 95% interval over them. {', '.join(most)} and "
        f"{last} are of each video against the original's.",
        "within: all metrics' losses to the original are below that, with the interval taken into account.",
    ]
    if results["speed"] is not None:
        lines.append(f"s/step: one denoising step of one video, {results['speed']['label']}.")
    return lines


def _row(model: Mapping[str, Any], columns: Sequence[Display], speed: Mapping[str, Any] | None) -> tuple[str, ...]:
    stored, part = model["stored_bytes"], stored_share(model)
    verdicts = ["failed" if model.get("failed") else _verdict(overall(model, level)) for level in LEVELS]
    cells = [model["name"], model["scheme"], *verdicts]
    cells += ["-" if stored is None else megabytes(stored), "-" if part is None else share(part)]
    cells += [_cell(model["summary"].get(shown.key), shown) for shown in columns]
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


def _cell(estimate: Mapping[str, Any] | None, shown: Display) -> str:
    if estimate is None:
        return "-"
    identical = estimate.get("identical", 0)
    if estimate["value"] is None:
        return decibels(float("inf")) if identical else "-"
    digits = min(shown.digits, _DIGITS)
    text = f"{estimate['value']:.{digits}f}"
    if shown.interval and estimate["low"] is not None:
        text += f" [{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"
    return f"{text}, {identical} identical" if identical else text
