"""The first thing a reader sees: what was compared, and what came of it, in a few words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.eval.drawing.markup import Piece, chip, escape, swatch
from quant.eval.metrics.table import display, leading
from quant.eval.results import speedup
from quant.eval.results.recorded import Overall, Recorded, levels, overall, stored_share
from quant.eval.results.words import also_identical, interval, level_text, mean, number, share, size


def headline(recorded: Recorded) -> Piece:
    """One sentence, and a card a candidate: verdicts, the leading metric, size and speed."""
    title = escape(recorded.body["conditions"]["model"])
    good = [candidate for candidate in recorded.candidates if not candidate.get("failed")]
    names = [escape(candidate["name"]) for candidate in good]
    alone = "every candidate failed" if recorded.candidates else "the run has no candidate yet"
    given = "inputs" if any(sample.get("inputs") for sample in recorded.samples) else "prompts"
    sentence = (
        f"{_listed([title, *names])} made "
        f"{number(len(recorded.samples), 'video')} each from the same {given}, seeds and "
        "initial latents, so what differs was made by quantization."
        if names
        else f"<b>{title}</b> alone: {alone}."
    )
    cards = "".join(_card(recorded, candidate) for candidate in recorded.candidates)
    return Piece(f'<p class="lead">{sentence}</p><div class="cards">{cards}</div>')


def _listed(names: list[str]) -> str:
    bold = [f"<b>{name}</b>" for name in names]
    return bold[0] if len(bold) == 1 else f"{', '.join(bold[:-1])} and {bold[-1]}"


def _card(recorded: Recorded, model: Mapping[str, Any]) -> str:
    verdicts = []
    for level in levels(recorded):
        found = overall(model, level)
        if found is not None:
            verdicts.append(f"<li>{chip(found.verdict, level_text(level))}<small>{escape(_judged(found))}</small></li>")
    facts = [_leading(model), _size(model), *_speed(recorded, model)]
    if model.get("failed"):
        verdicts.append(f"<li>{chip('failed')}<small>{escape(model['failed'])}</small></li>")
    return (
        f'<section class="card model" data-model="{escape(model["name"])}">'
        f"<h3>{swatch(recorded.place(model))}{escape(model['name'])}<small>{escape(model['scheme'])}</small></h3>"
        f'<ul class="verdicts">{"".join(verdicts)}</ul><dl>{"".join(facts)}</dl></section>'
    )


def _judged(found: Overall) -> str:
    """The metrics that a verdict speaks of."""
    if 1 < found.judged == len(found.metrics):
        return f"all {number(found.judged, 'metric')}"
    return ", ".join(display(key).title for key in found.metrics)


def _leading(model: Mapping[str, Any]) -> str:
    shown = leading()
    summary = model["summary"].get(shown.key) or {}
    if summary.get("value") is None and not summary.get("identical"):
        return ""
    details = ", ".join(text for text in (interval(summary, shown.digits), also_identical(summary)) if text)
    return f"<div><dt>{shown.title}</dt><dd>{mean(summary, shown)}<small>{details}</small></dd></div>"


def _size(model: Mapping[str, Any]) -> str:
    part, stored = stored_share(model), model["stored_bytes"]
    if stored is None:
        return ""
    if part is None:
        return f"<div><dt>Stored</dt><dd>{size(stored)}</dd></div>"
    return f"<div><dt>Stored</dt><dd>{share(part)}<small>of bf16, {size(stored)}</small></dd></div>"


def _speed(recorded: Recorded, model: Mapping[str, Any]) -> list[str]:
    parts = []
    taken = speedup.of_kernels(recorded, model, "step")
    if taken is not None:
        parts.append(f"<div><dt>Step</dt><dd>{taken:.2f}×<small>measured</small></dd></div>")
    predicted = speedup.estimated(recorded, model)
    if predicted is not None and recorded.estimated is not None:
        gpu = escape(recorded.estimated["gpu"])
        parts.append(f"<div><dt>Step</dt><dd>{predicted:.2f}×<small>estimated, {gpu}</small></dd></div>")
    return parts
