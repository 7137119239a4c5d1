"""The recorded sensitivity of layers, as heat maps."""

from __future__ import annotations

import json

import quant
from quant.errors import QuantError
from quant.eval.drawing.markup import Piece, escape, note, swatch
from quant.eval.drawing.sensitivity import sensitivity_svg
from quant.eval.results.recorded import Recorded


def heat_maps(recorded: Recorded) -> Piece:
    """One picture for each candidate whose configuration names a sensitivity; says so where none does.

    Raises:
        QuantError: a recorded sensitivity is of a version that is not read here.
    """
    parts = []
    for model in recorded.candidates:
        body = model.get("sensitivity")
        if body is None:
            continue
        try:
            found = quant.Sensitivity.from_json(json.dumps(body))
        except (ValueError, TypeError, KeyError) as error:
            raise QuantError(
                f"{recorded.folder}: the sensitivity of {model['name']!r} cannot be read: {error}"
            ) from None
        parts.append(
            f'<figure class="card chart heat" data-plot="heat">'
            f"<figcaption>{swatch(recorded.place(model))}<b>{escape(model['name'])}</b>"
            f"<small>The stronger the colour, the more the prediction changes.</small></figcaption>"
            f'<div class="scroll" tabindex="0" role="region" aria-label="Sensitivity of layers">'
            f"{sensitivity_svg(found, themed=True)}</div></figure>"
        )
    if not parts:
        told = "No sensitivity was recorded; name one under <code>sensitivity</code> in the run’s configuration."
        return Piece(note(told))
    return Piece("".join(parts))
