"""Results in one table, as terminals and READMEs show them: a line a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quant.eval.metrics.base import Display
from quant.eval.metrics.intervals import LEVELS
from quant.eval.metrics.table import metrics, ordered
from quant.eval.results.recorded import Overall, overall, stored_share
from quant.eval.results.speedup import is_reference
from quant.eval.results.words import level_text, number, share
from quant.eval.tables import Table, decibels, megabytes

Results = Mapping[str, Any]
#: Digits after the point at most.
_DIGITS = 3


def summary(results: Results) -> Table:
    """The original first; columns that no model has a figure for are left out.

    Args:
        results: those of `results.json`.
    """
    models = results["models"]
    taken = {key for model in models for key in model["summary"]}
    columns = ordered(metric.key for metric in metrics() if metric.key in taken)
    headings = ["model", "scheme", *(f"within {level_text(level)}" for level in LEVELS), "stored", "of bf16"]
    headings += [shown.heading or shown.title for shown in columns]
    column = _Step(results)
    headings += column.heading
    return Table(tuple(headings), tuple((*_row(model, columns), *column.cell(model)) for model in models), words=4)


def notes(results: Results) -> list[str]:
    """What the figures of the table mean, a sentence a line."""
    *most, last = dict.fromkeys(metric.short for metric in metrics("paired") if metric.short)
    count = number(len(results["samples"]), "sample")
    lines = [
        f"{count}, same seeds and initial latents; in brackets the 95% interval over them. {', '.join(most)} and "
        f"{last} are of each video against the original's.",
        "within: all metrics' losses to the original are below that, with the interval taken into account.",
    ]
    return lines + _Step(results).notes


class _Step:
    """What is known of a denoising step's time: a GPU's seconds, else estimated speedups; never a CPU's seconds."""

    def __init__(self, results: Results) -> None:
        speed, self._original = results["speed"], results["models"][0]["name"]
        self._measured = None if speed is None or is_reference(speed) else speed
        self._estimated = None if speed is None or self._measured is not None else speed.get("estimated")

    @property
    def heading(self) -> list[str]:
        """One or none."""
        if self._measured is not None:
            return ["s/step"]
        return [] if self._estimated is None else ["est. speedup"]

    @property
    def notes(self) -> list[str]:
        """What the column is, in a sentence."""
        if self._measured is not None:
            return [f"s/step: one denoising step of one video, {self._measured['label']}."]
        if self._estimated is None:
            return []
        return [
            f"est. speedup: of one denoising step, a roofline estimate for {self._estimated['gpu']}, not measured; the "
            "times of this CPU are those of reference arithmetic and no kernel's, so they stand in the report only."
        ]

    def cell(self, model: Mapping[str, Any]) -> list[str]:
        """One or none of a model."""
        name = model["name"]
        if self._measured is not None:
            stages = self._measured["models"].get(name, {}).get("stages") or {}
            median = (stages.get("step") or {}).get("median")
            return ["-" if median is None else f"{median:.3f}"]
        if self._estimated is None:
            return []
        base, ours = (self._estimated["models"].get(each) for each in (self._original, name))
        return [f"{base['step_s'] / ours['step_s']:.2f}x" if base and ours else "-"]


def _row(model: Mapping[str, Any], columns: Sequence[Display]) -> tuple[str, ...]:
    stored, part = model["stored_bytes"], stored_share(model)
    verdicts = ["failed" if model.get("failed") else _verdict(overall(model, level)) for level in LEVELS]
    cells = [model["name"], model["scheme"], *verdicts]
    cells += ["-" if stored is None else megabytes(stored), "-" if part is None else share(part)]
    cells += [_cell(model["summary"].get(shown.key), shown) for shown in columns]
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
