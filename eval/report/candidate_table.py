"""A run's candidates against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.eval.drawing.markup import Piece, chip, escape, note, swatch, table
from quant.eval.metrics.paired import WORDS
from quant.eval.metrics.table import ordered
from quant.eval.results.comparing import Pair, candidate_pairs
from quant.eval.results.recorded import Recorded


def candidate_table(recorded: Recorded) -> Piece:
    """A row for every two candidates, a column for each metric that compares with the original."""
    found = candidate_pairs(recorded.body)
    if not found:
        return Piece(note("Fewer than two candidates were scored, so none is compared with another."))
    shown = ordered(pair.metric.key for pair in found)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for pair in found:
        names = (_name(recorded, pair.second), _name(recorded, pair.first))
        rows.setdefault(names, {})[pair.metric.key] = _cell(pair)
    head = ("candidate", "than", *(escape(metric.title) for metric in shown))
    lines = ((*names, *(cells.get(metric.key, "–") for metric in shown)) for names, cells in rows.items())
    explained = (
        "Each cell: whether the candidate is better than the other on the same samples, the mean of its score less the "
        "other’s with its 95% interval (Student’s), and on how many samples it is better; those of one prompt count as "
        f"one. Of {len(found)} comparisons, {WORDS}."
    )
    return Piece(table(head, lines, words=2, label="Candidates against each other") + note(explained))


def _name(recorded: Recorded, model: Mapping[str, Any]) -> str:
    """The mark of a candidate in plots, and its name."""
    return f"{swatch(recorded.place(model))}{escape(model['name'])}"


def _cell(pair: Pair) -> str:
    mean, digits = pair.found.difference, pair.metric.digits
    value = "–" if mean.value is None else f"{mean.value:+.{digits}f}{pair.metric.unit}"
    bounds = "" if mean.low is None else f"{mean.low:+.{digits}f} – {mean.high:+.{digits}f}"
    count = f"<small>better on {pair.found.better} of {pair.found.samples}</small>"
    return f'{chip(pair.outcome, short=True)}<br>{value}<small class="interval">{bounds}</small>{count}'
