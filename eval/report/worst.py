"""The prompts that suffered most."""

from __future__ import annotations

import math

from quant.eval.report.markup import Piece, escape, note, swatch, table
from quant.eval.report.recorded import Recorded, by_worst_candidate, sample_score
from quant.eval.report.words import figure, ordered


def worst_prompts(recorded: Recorded, count: int = 10) -> Piece:
    """The `count` samples of the lowest PSNR, each by the candidate that is worst at it, with its other metrics."""
    found = by_worst_candidate(recorded)
    if not found:
        return Piece(note("No PSNR was taken, so prompts cannot be ordered by it."))
    taken = {key for _, sample, model in found for key in model["scores"].get(sample["id"], {})}
    metrics = [shown for shown in ordered(taken) if shown.key not in ("psnr", "judged")]
    truncated = set(recorded.body.get("truncated_prompts") or ())
    rows = []
    for psnr, sample, model in found[:count]:
        cut = " <small>cut off by CLIP’s tokenizer</small>" if sample["id"] in truncated else ""
        cells = [figure(sample_score(model, sample["id"], shown.key), shown) for shown in metrics]
        worst = "every candidate" if math.isinf(psnr) else f"{swatch(recorded.place(model))}{escape(model['name'])}"
        rows.append(
            (
                f'<span class="prompt">{escape(sample["prompt"])}{cut}</span>',
                worst,
                str(sample["seed"]),
                "identical" if math.isinf(psnr) else f"{psnr:.1f} dB",
                *cells,
            )
        )
    head = ("prompt", "worst candidate", "seed", "PSNR", *(escape(shown.title) for shown in metrics))
    return Piece(table(head, rows, words=2, label="Worst prompts"))
