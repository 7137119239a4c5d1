"""Times and memory: what was measured, what is reference arithmetic, and what is estimated, in columns of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.eval.report import speedup
from quant.eval.report.markup import Piece, definitions, escape, note, swatch, table
from quant.eval.report.recorded import Recorded
from quant.eval.report.words import REFERENCE, duration, number, size


def speed_table(recorded: Recorded) -> Piece:
    """Stages, first call, memory and kernels' share of each model; says so where nothing was timed."""
    speed = recorded.speed
    if speed is None:
        return Piece(note("Nothing was timed in this run."))
    settings = ", ".join(f"{key} {value}" for key, value in (speed.get("settings") or {}).items())
    conditions = {
        "device": escape(_device(speed["device"])),
        "what the times are": f"<b>{escape(speed['label'])}</b>",
        "attention": escape(str(speed.get("attention") or "–")),
        "compiled": "yes" if speed.get("compiled") else "no",
        "rounds": f"{speed.get('rounds', '–')}, the original and the candidates in turn",
        "settings": escape(settings or "–"),
    }
    return Piece(_stages(recorded, speed) + _whole(recorded, speed) + _kernels(speed) + definitions(conditions))


def _stages(recorded: Recorded, speed: Mapping[str, Any]) -> str:
    kind = speedup.kind(speed)
    kinds = [kind] if recorded.estimated is None else [kind, "estimated"]
    rows, failed = [], []
    for model in recorded.models:
        timed = speed["models"].get(model["name"])
        if timed is None or timed.get("failed"):
            why = "was not timed" if timed is None else f"failed: {timed['failed']}"
            failed.append(f"{escape(model['name'])} {escape(why)}.")
        for stage, title in speedup.STAGES.items():
            row = _stage_row(recorded, model, stage, kinds)
            if row is not None:
                rows.append((f"{swatch(recorded.place(model))}{escape(model['name'])}", title, *row))
    heads = [
        "model",
        "stage",
        *(f"{kind}<small>{_of(recorded, kind)}</small>" for kind in kinds),
        "p90",
        "variation",
        "n",
    ]
    return table(heads, rows, words=2, label="Times by stage") + (note(" ".join(failed)) if failed else "")


def _of(recorded: Recorded, kind: str) -> str:
    """What stands under the head of a column of times."""
    if kind == "estimated" and recorded.estimated is not None:
        return escape(str(recorded.estimated["gpu"]))
    return "not a kernel’s time, median" if kind == REFERENCE else "median"


def _stage_row(recorded: Recorded, model: Mapping[str, Any], stage: str, kinds: list[str]) -> tuple[str, ...] | None:
    timed = {} if recorded.speed is None else recorded.speed["models"].get(model["name"]) or {}
    stat = {} if timed.get("failed") else (timed.get("stages") or {}).get(stage) or {}
    predicted = None
    if stage == "step" and recorded.estimated is not None:
        predicted = (recorded.estimated["models"].get(model["name"]) or {}).get("step_s")
    if not stat and predicted is None:
        return None
    cells = [_time(stat.get("median"), None if _first(recorded, model) else speedup.measured(recorded, model, stage))]
    if "estimated" in kinds:
        cells.append(_time(predicted, None if _first(recorded, model) else speedup.estimated(recorded, model)))
    variation = "–" if stat.get("cv") is None else f"{stat['cv']:.1%}"
    return (*cells, duration(stat.get("p90")), variation, str(stat.get("n", "–")))


def _first(recorded: Recorded, model: Mapping[str, Any]) -> bool:
    return recorded.place(model) == 0


def _time(seconds: float | None, times: float | None) -> str:
    if seconds is None:
        return "–"
    return duration(seconds) + ("" if times is None else f"<small>{times:.2f}× as fast</small>")


def _whole(recorded: Recorded, speed: Mapping[str, Any]) -> str:
    """What is taken once a model: the first call, compilation, memory."""
    rows = []
    for model in recorded.models:
        timed = speed["models"].get(model["name"])
        if timed is None or timed.get("failed"):
            continue
        peak = timed.get("peak_memory_bytes")
        rows.append(
            (
                f"{swatch(recorded.place(model))}{escape(model['name'])}",
                duration(timed.get("first_call_s")),
                duration(timed.get("compile_s")),
                "not taken" if peak is None else size(peak),
                size(model["stored_bytes"]),
            )
        )
    head = ("model", "first call", "of it compiling", "peak memory", "stored")
    return table(head, rows, label="First call and memory") if rows else ""


def _kernels(speed: Mapping[str, Any]) -> str:
    """Which kernels a step's time went to, the largest first."""
    parts = []
    for name, timed in speed["models"].items():
        kernels = sorted(timed.get("kernels") or [], key=lambda kernel: -float(kernel["share"]))
        if kernels:
            bars = "".join(
                f'<li><span class="bar" style="--share:{kernel["share"]:.4f}"></span><b>{kernel["share"]:.1%}</b>'
                f"<code>{escape(kernel['name'])}</code></li>"
                for kernel in kernels[:12]
            )
            parts.append(
                f"<details><summary>{escape(name)}: {number(len(kernels), 'kernel')}</summary>"
                f'<ul class="kernels">{bars}</ul></details>'
            )
    return "".join(parts) if parts else note("Kernels’ shares of the time were not recorded.")


def _device(device: Mapping[str, Any]) -> str:
    parts = [str(device["name"])]
    if device.get("clocks") is not None:
        parts.append(f"clocks {device['clocks']}")
    if device.get("power_w") is not None:
        parts.append(f"{device['power_w']} W")
    return ", ".join(parts)
