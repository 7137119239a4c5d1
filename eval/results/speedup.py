"""How many times faster than the original: measured ratios, and estimated ones kept apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.eval.results.recorded import Recorded
from quant.eval.results.words import REFERENCE

STAGES = {
    "text_encoder": "text encoder",
    "input_encoder": "image and video encoding",
    "step": "one denoising step",
    "vae": "VAE decoding",
    "end_to_end": "end to end",
}


def is_reference(speed: Mapping[str, Any]) -> bool:
    """Were the times taken of reference arithmetic? So it is on a CPU, where no kernel of a GPU runs."""
    return speed["device"]["type"] == "cpu" or str(speed["label"]).startswith(REFERENCE)


def kind(speed: Mapping[str, Any]) -> str:
    """ "measured" or "reference arithmetic"."""
    return REFERENCE if is_reference(speed) else "measured"


def of_kernels(recorded: Recorded, model: Mapping[str, Any], stage: str) -> float | None:
    """As `measured`, but None where the times are of reference arithmetic: those say nothing of a kernel's."""
    if recorded.speed is None or is_reference(recorded.speed):
        return None
    return measured(recorded, model, stage)


def measured(recorded: Recorded, model: Mapping[str, Any], stage: str) -> float | None:
    """Median time of the original over the model's, of a stage; None where either was not timed."""
    ours, base = seconds(recorded, model, stage), seconds(recorded, recorded.original, stage)
    return base / ours if ours and base else None


def seconds(recorded: Recorded, model: Mapping[str, Any], stage: str) -> float | None:
    """The median time of a stage; None where it was not taken."""
    timed = {} if recorded.speed is None else recorded.speed["models"].get(model["name"]) or {}
    if timed.get("failed"):
        return None
    stat = (timed.get("stages") or {}).get(stage) or {}
    median: float | None = stat.get("median")
    return median


def estimated(recorded: Recorded, model: Mapping[str, Any]) -> float | None:
    """The predicted time of a step of the original over the model's; None where there is no prediction."""
    times = {} if recorded.estimated is None else recorded.estimated["models"]
    ours, base = times.get(model["name"]), times.get(recorded.original["name"])
    return base["step_s"] / ours["step_s"] if ours and base else None


def memory(recorded: Recorded, model: Mapping[str, Any]) -> int | None:
    """Peak memory in bytes; None where it was not taken."""
    timed = {} if recorded.speed is None else recorded.speed["models"].get(model["name"]) or {}
    peak: int | None = timed.get("peak_memory_bytes")
    return peak
