"""What a test asks of a plan."""

from __future__ import annotations

from quant.calibration.layer_plan import Kept, LayerPlan


def reason_of(layer: LayerPlan) -> str:
    """Why a layer is kept; empty where it is quantized."""
    return layer.reason if isinstance(layer, Kept) else ""
