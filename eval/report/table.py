"""The table of an evaluation: the same cells as text for a terminal and for a page."""

import math
from dataclasses import dataclass

from quant.eval.metrics.paired import PsnrSummary, summarize
from quant.eval.results import Measurement, Results

#: What the column of seconds means, in the words that every report repeats.
NOT_A_KERNEL = "reference arithmetic on a CPU: not a kernel's time"

#: The order in which judged attributes are shown: the ones a damaged model loses last come first.
_ATTRIBUTES = ("colour", "direction", "shape", "size", "speed", "background")


@dataclass(frozen=True)
class Table:
    """Headings, and rows of as many cells. The first `words` columns are words, the others figures."""

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 2


def table(results: Results) -> Table:
    """One row a model, the original first. Columns that say nothing about these samples are left out."""
    attributes = judged_attributes(results)
    headings = ("model", "scheme", "stored", "of bf16", "PSNR mean", "PSNR min", *attributes, "s/step")
    models = (results.original, *results.candidates)
    return Table(headings, tuple(_row(model, attributes, len(results.samples)) for model in models))


def judged_attributes(results: Results) -> tuple[str, ...]:
    """The attributes that were judged, in the order they are shown."""
    return tuple(name for name in _ATTRIBUTES if name in results.original.judged)


def as_text(shown: Table) -> str:
    """Aligned columns, two spaces apart, a rule under the headings."""
    lines = [shown.headings, *shown.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(shown.headings))]
    text = [_aligned(line, widths, shown.words) for line in lines]
    text.insert(1, "-" * max(len(line) for line in text))
    return "\n".join(text)


def summary(results: Results) -> str:
    """The table and what its figures mean, for a terminal."""
    count = len(results.samples)
    return "\n".join(
        [
            as_text(table(results)),
            "",
            f"PSNR (dB): against the original on raw frames; {count} prompts, same seeds and initial latents.",
            *_calibrated(results),
            f"s/step: a batch of {results.batch}; {NOT_A_KERNEL}.",
        ]
    )


def _calibrated(results: Results) -> list[str]:
    count = results.calibration_prompts
    return [] if count is None else [f"Recipes that need data were calibrated on {count} other prompts."]


def decibels(value: float) -> str:
    """A PSNR with one decimal; `identical` where it is infinite."""
    return "identical" if math.isinf(value) else f"{value:.1f}"


def megabytes(count: int) -> str:
    """Bytes as decimal megabytes."""
    return f"{count / 1e6:.2f} MB" if count < 1e8 else f"{count / 1e6:,.0f} MB"


def seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _row(model: Measurement, attributes: tuple[str, ...], count: int) -> tuple[str, ...]:
    verdicts = [f"{sum(model.judged[attribute])}/{count}" for attribute in attributes]
    share = f"{model.stored_bytes / model.bf16_bytes:.0%}"
    psnr = _psnr_cells(summarize(model.psnr) if model.psnr else None)
    return (
        model.name,
        model.scheme,
        megabytes(model.stored_bytes),
        share,
        *psnr,
        *verdicts,
        seconds(model.seconds_per_step),
    )


def _psnr_cells(psnr: PsnrSummary | None) -> tuple[str, str]:
    if psnr is None:
        return "-", "-"
    return decibels(psnr.mean), decibels(psnr.minimum)


def _aligned(cells: tuple[str, ...], widths: list[int], words: int) -> str:
    padded = [
        cell.ljust(width) if column < words else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def as_markdown(shown: Table) -> str:
    """The table as GitHub draws it, figures aligned to the right."""
    rule = ["---" if column < shown.words else "---:" for column in range(len(shown.headings))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (shown.headings, rule, *shown.rows))
