"""What became of every layer, as plain data, for the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quant.calibration.layer_plan import Kept, LayerPlan
from quant.calibration.solution import Solution


def layer_records(
    layers: Sequence[LayerPlan], solutions: Mapping[str, Solution], errors: Mapping[str, float]
) -> list[dict[str, Any]]:
    """One mapping a layer: name, kind, shape, scheme (None where kept), reason, and what was measured."""
    records = []
    for layer in layers:
        record: dict[str, Any] = {"name": layer.name, "kind": layer.kind, "shape": list(layer.shape)}
        if isinstance(layer, Kept):
            record.update(scheme=None, reason=layer.reason)
        else:
            form = solutions[layer.name].form(layer.group)
            record.update(scheme=form.label, weight_error=errors[layer.name])
            record.update(solutions[layer.name].notes)
        records.append(record)
    return records
