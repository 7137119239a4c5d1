"""Every metric of every model with its interval and verdicts, and the prompts that suffered most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from quant.eval.drawing.markup import Piece, chip, escape, note, swatch, table
from quant.eval.metrics.base import Display
from quant.eval.metrics.table import SET_DISTANCES, leading, metrics, ordered
from quant.eval.results.recorded import Recorded, by_worst_candidate, levels, sample_score, stored_share
from quant.eval.results.words import (
    GROUPS,
    also_identical,
    figure,
    interval,
    level_text,
    mean,
    number,
    share,
    size,
)

_DISTANCES = {"to_original": "to the original’s videos", "to_real": "to real videos"}


def score_table(recorded: Recorded) -> Piece:
    """Metrics are rows, models columns; six candidates fit a page of the usual width, more are scrolled to.

    A distance of too few samples is marked as such before its raw value.
    """
    models = recorded.models
    heads = "".join(
        f'<th scope="col">{swatch(recorded.place(model))}{escape(model["name"])}{_small(escape(model["scheme"]))}</th>'
        for model in models
    )
    rows = [_plain("Stored", [_stored(model) for model in models])]
    known = ordered(key for model in models for key in model["summary"])
    for group, title in GROUPS.items():
        members = [shown for shown in known if shown.kind == group]
        if members:
            rows.append(_heading(title, len(models) + 1))
            rows += [_metric_row(recorded, shown) for shown in members]
    rows += _set_rows(recorded)
    table = (
        '<div class="card scroll" tabindex="0" role="region" aria-label="Metrics with verdicts"><table class="scores">'
        f'<thead><tr><th scope="col" class="word">Metric</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
    return Piece(table + note(_explained(recorded)))


def distance(found: Mapping[str, Any] | float | None) -> str:
    """A distance of sets as HTML; one that says that its samples are too few is not printed as a figure to go by."""
    if found is None:
        return "–"
    if not isinstance(found, Mapping):
        return f"{found:.3g}"
    raw = "–" if found.get("value") is None else f"{found['value']:.3g}"
    if not found.get("enough"):
        few = f"too few samples: N={found['n']}, D={found['dimension']}"
        return f'<span class="few">{few}</span><small>raw value {raw}, not to be compared</small>'
    beyond = found.get("extrapolated")
    more = "" if beyond is None else f"{beyond:.3g} extrapolated to many samples"
    return f"{raw}{_interval(interval(found, 2))}{_small(more)}"


def worst_prompts(recorded: Recorded, count: int = 10) -> Piece:
    """The `count` worst samples by the leading metric, each by the candidate worst at it, with its other metrics."""
    lead = leading()
    found = by_worst_candidate(recorded)
    if not found:
        return Piece(note(f"No {lead.title} was taken, so prompts cannot be ordered by it."))
    taken = {key for _, sample, model in found for key in model["scores"].get(sample["id"], {})}
    metrics = [shown for shown in ordered(taken) if shown.key != lead.key and not shown.answers]
    truncated = set(recorded.body.get("truncated_prompts") or ())
    rows = []
    for value, sample, model in found[:count]:
        cut = " <small>cut off by CLIP’s tokenizer</small>" if sample["id"] in truncated else ""
        cells = [figure(sample_score(model, sample["id"], shown.key), shown) for shown in metrics]
        worst = "every candidate" if math.isinf(value) else f"{swatch(recorded.place(model))}{escape(model['name'])}"
        rows.append(
            (
                f'<span class="prompt">{escape(sample["prompt"])}{cut}</span>',
                worst,
                str(sample["seed"]),
                figure(value, lead),
                *cells,
            )
        )
    head = ("prompt", "worst candidate", "seed", escape(lead.title), *(escape(shown.title) for shown in metrics))
    return Piece(table(head, rows, words=2, label="Worst prompts"))


def _metric_row(recorded: Recorded, shown: Display) -> str:
    cells = [_cell(model, shown, levels(recorded)) for model in recorded.models]
    better = "higher is better" if shown.higher else "lower is better"
    return _plain(f"{escape(shown.title)}<small>{better}</small>", cells)


def _cell(model: Mapping[str, Any], shown: Display, judged: list[float]) -> str:
    summary = model["summary"].get(shown.key)
    if summary is None:
        return "–"
    parts = [mean(summary, shown)]
    if bounds := interval(summary, shown.digits):
        parts.append(_interval(bounds))
    elif summary["value"] is not None:
        parts.append(_small(f"{number(summary['n'], 'sample')}: no interval"))
    parts.append(_small(also_identical(summary)))
    chips = [
        chip(entry["verdict"], level_text(level), short=True)
        for level in judged
        for entry in model["verdicts"]
        if entry["metric"] == shown.key and entry["level"] == level
    ]
    if chips:
        parts.append(f'<div class="chips">{"".join(chips)}</div>')
    return "".join(parts)


def _set_rows(recorded: Recorded) -> list[str]:
    keys = list(dict.fromkeys(key for model in recorded.models for key in model.get("sets") or {}))
    if not keys:
        return []
    rows = [_heading("Distances between sets of videos: they hide what single videos show, so they come last", 99)]
    for key in keys:
        for which, words in _DISTANCES.items():
            for each in SET_DISTANCES:
                entries = [((model.get("sets") or {}).get(key) or {}) for model in recorded.models]
                found = [entry.get(f"{each.prefix}{which}") for entry in entries]
                if any(value is not None for value in found):
                    head = f"{escape(each.title(key))}<small>{words}, {each.remark}</small>"
                    rows.append(_plain(head, [distance(value) for value in found]))
    return rows


def _explained(recorded: Recorded) -> str:
    judged = " and ".join(map(level_text, levels(recorded)))
    below = f"Below each value: its 95% bootstrap interval over {number(len(recorded.samples), 'sample')}. "
    if not judged:
        return below
    # Figures that are a loss by themselves come before those that have to be turned into one.
    paired = sorted(metrics("paired"), key=lambda metric: metric.identical)
    losses = dict.fromkeys(metric.loss_words for metric in paired if metric.loss_words)
    return (
        f"{below}Verdicts ask whether the loss against the original is at most {judged}: <b>pass</b> if the whole "
        "interval of the loss is below, <b>fail</b> if all of it is above, else <b>too few</b>: not enough samples to "
        "say. "
        f"The loss is {', '.join(losses)}, and what is lacking to the original’s own value otherwise."
    )


def _plain(title: str, cells: list[str]) -> str:
    return f'<tr><th scope="row" class="word">{title}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'


def _heading(text: str, columns: int) -> str:
    return f'<tr class="group"><th scope="colgroup" colspan="{columns}" class="word">{escape(text)}</th></tr>'


def _stored(model: Mapping[str, Any]) -> str:
    part = stored_share(model)
    return size(model["stored_bytes"]) + _small("" if part is None else f"{share(part)} of bf16")


def _interval(text: str) -> str:
    """An interval on a line of its own, in one piece."""
    return f'<small class="interval">{text}</small>' if text else ""


def _small(text: str) -> str:
    return f"<small>{text}</small>" if text else ""
