"""The prompts that suffered most."""

from __future__ import annotations

import math

from quant.eval.drawing.markup import Piece, escape, note, swatch, table
from quant.eval.metrics.table import leading, ordered
from quant.eval.results.recorded import Recorded, by_worst_candidate, sample_score
from quant.eval.results.words import figure


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
