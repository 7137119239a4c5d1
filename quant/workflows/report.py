"""Every layer's fate as plain data, for the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quant.models.fate import Fate
from quant.workflows.solution import Solution


def layer_records(
    fates: Sequence[Fate], solutions: Mapping[str, Solution], errors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One mapping a layer: name, kind, shape, scheme (None where kept), reason, and what was measured."""
    records = []
    for fate in fates:
        record: dict[str, Any] = {"name": fate.name, "kind": fate.kind, "shape": list(fate.shape)}
        if fate.group is None:
            record.update(scheme=None, reason=fate.reason)
        else:
            form = solutions[fate.name].form(fate.group)
            record.update(scheme=form.label, weight_error=errors[fate.name])
            record.update(solutions[fate.name].notes)
        records.append(record)
    return records
