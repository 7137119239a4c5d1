"""What `quant recipes` shows of each recipe, kept as data of the package: `recipes/expected.json`."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.quality.candidates import CANDIDATES
from benchmarks.quality.results import is_current, read
from benchmarks.quality.subjects import SUBJECTS
from benchmarks.quality.table import psnr_of

#: Figures are those of the example without convolutions, as of most video models.
EXAMPLE = SUBJECTS[0].example
EXPECTED = Path(__file__).parent.parent.parent / "recipes" / "expected.json"


def expected() -> str:
    """The file's text: for each shipped recipe that was measured as it is today, by its hash, its figures."""
    body = read(EXAMPLE)
    found = {}
    for each in CANDIDATES:
        if each.is_recipe and is_current(body, each):
            entry = body["measured"][each.key]
            psnr = psnr_of(entry)
            found[each.recipe.sha256] = {
                "name": each.recipe.name,
                "share_of_bf16": round(entry["stored_bytes"] / entry["bf16_bytes"], 4),
                "psnr_mean": round(psnr.mean, 2),
                "psnr_worst": round(psnr.minimum, 2),
            }
    return json.dumps(found, indent=1) + "\n"
