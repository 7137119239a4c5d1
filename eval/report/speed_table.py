"""Times and memory: what was measured, what is reference arithmetic, and what is estimated, in columns of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.eval.drawing.markup import Piece, definitions, escape, note, swatch, table
from quant.eval.results import speedup
from quant.eval.results.recorded import Recorded
from quant.eval.results.words import REFERENCE, duration, size
from quant.text import shown

#: What stands under the head of the column of times.
_MEDIAN = {"measured": "median", REFERENCE: "not a kernel’s time, median"}


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
        "rounds": f"{speed.get('rounds', '–')}, every model once in each, in an order that is shuffled anew",
        "settings": escape(settings or "–"),
    }
    tables = _stages(recorded, speed) + _whole(recorded, speed) + _kernels(recorded, speed)
    return Piece(tables + definitions(conditions) + _samples(speed))


def _samples(speed: Mapping[str, Any]) -> str:
    """Which samples the times are of; nothing where an earlier version did not record them."""
    samples = speed.get("samples") or ()
    rows = [(escape(each["prompt"]), str(each["seed"]), escape(_inputs(each))) for each in samples]
    if not rows:
        return ""
    about = "Rounds take these in turn; the first call, peak memory and the shares of kernels are of the first of them."
    return table(("timed on", "seed", "other inputs"), rows, words=3, label="Samples that were timed") + note(about)


def _inputs(sample: Mapping[str, Any]) -> str:
    """What else than a prompt a sample's call is given, in words; a file by its name."""
    values = {name: value for name, value in (sample.get("inputs") or {}).items() if name != "prompt"}
    return ", ".join(f"{name} {_word(value)}" for name, value in values.items()) or "–"


def _word(value: Any) -> str:
    if isinstance(value, list):
        return " + ".join(_file(each) or shown(each) for each in value)
    return _file(value) or shown(value)


def _file(value: Any) -> str | None:
    return str(value["file"]) if isinstance(value, Mapping) and "file" in value else None


def _stages(recorded: Recorded, speed: Mapping[str, Any]) -> str:
    kind = speedup.kind(speed)
    rows = []
    for model in recorded.models:
        for stage, title in speedup.STAGES.items():
            row = _stage_row(recorded, speed, model, stage)
            if row is not None:
                rows.append((_name(recorded, model), title, *row))
    heads = ["model", "stage", f"{kind}<small>{_MEDIAN[kind]}</small>", "p90", "variation", "n"]
    if recorded.estimated is not None:
        heads.append(f"estimated<small>{escape(recorded.estimated['gpu'])}</small>")
    missing = _not_taken(recorded, speed)
    return table(heads, rows, words=2, label="Times by stage") + (note(" ".join(missing)) if missing else "")


def _not_taken(recorded: Recorded, speed: Mapping[str, Any]) -> list[str]:
    """A sentence for each model that was not timed, and for each thing of one that could not be had."""
    found = []
    for model in recorded.models:
        name, timed = escape(model["name"]), speed["models"].get(model["name"])
        if timed is None and model.get("failed"):
            found.append(f"{name} failed: {escape(model['failed'])}.")
        elif timed is None:
            found.append(f"{name} was not timed.")
        elif timed.get("failed"):
            found.append(f"{name} failed: {escape(timed['failed'])}.")
        else:
            found += [f"{name}, {escape(text)}." for text in timed.get("notes") or ()]
    return found


def _stage_row(
    recorded: Recorded, speed: Mapping[str, Any], model: Mapping[str, Any], stage: str
) -> tuple[str, ...] | None:
    """Measured time, p90, variation, count and, where any was estimated, the estimate; None where there is no time."""
    timed = speed["models"].get(model["name"]) or {}
    stat = {} if timed.get("failed") else (timed.get("stages") or {}).get(stage) or {}
    predicted = None
    if stage == "step" and recorded.estimated is not None:
        predicted = (recorded.estimated["models"].get(model["name"]) or {}).get("step_s")
    if not stat and predicted is None:
        return None
    variation = "–" if stat.get("cv") is None else f"{stat['cv']:.1%}"
    taken = _time(stat.get("median"), None if _first(recorded, model) else speedup.measured(recorded, model, stage))
    cells = (taken, duration(stat.get("p90")), variation, str(stat.get("n", "–")))
    if recorded.estimated is None:
        return cells
    return (*cells, _time(predicted, None if _first(recorded, model) else speedup.estimated(recorded, model)))


def _name(recorded: Recorded, model: Mapping[str, Any]) -> str:
    return f"{swatch(recorded.place(model))}{escape(model['name'])}"


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
                _name(recorded, model),
                duration(timed.get("first_call_s")),
                duration(timed.get("compile_s")),
                "not taken" if peak is None else size(peak),
                size(model["stored_bytes"]),
            )
        )
    head = ("model", "first call", "of it compiling", "peak memory", "stored")
    return table(head, rows, label="First call and memory") if rows else ""


def _kernels(recorded: Recorded, speed: Mapping[str, Any]) -> str:
    """Which kernels a step's time went to, as recorded: the largest first, all others together last."""
    one = "operation" if speed["device"]["type"] == "cpu" else "kernel"
    parts = []
    for model in recorded.models:
        kernels = (speed["models"].get(model["name"]) or {}).get("kernels")
        if kernels:
            bars = "".join(
                f'<li><span class="bar" style="--share:{kernel["share"]:.4f}"></span><b>{kernel["share"]:.1%}</b>'
                f"<code>{escape(kernel['name'])}</code></li>"
                for kernel in kernels
            )
            parts.append(
                f"<details><summary>{escape(model['name'])}: time by {one}</summary>"
                f'<ul class="kernels">{bars}</ul></details>'
            )
    if not parts:
        return note("Kernels’ shares of the time were not recorded.")
    what = (speed.get("what") or {}).get("kernels")
    return (note(f"Time by {one}: {escape(what)}.") if what else "") + "".join(parts)


def _device(device: Mapping[str, Any]) -> str:
    """The name, and a GPU's clocks and power before the first and after the last call."""
    clocks, power = device.get("clocks") or {}, device.get("power_w") or {}
    parts = [
        str(device["name"]),
        _change("SM clock", clocks, "sm_mhz", "MHz", limit="max_sm_mhz"),
        _change("memory clock", clocks, "memory_mhz", "MHz"),
        _change("power", power, "draw", "W", limit="limit"),
    ]
    return "; ".join(part for part in parts if part)


def _change(what: str, read: Mapping[str, Any], key: str, unit: str, limit: str = "") -> str:
    """ "SM clock 210 MHz before, 1980 MHz after, of at most 1980 MHz"; empty where nothing was read."""
    figures = [f"{read[when][key]:g} {unit} {when}" for when in ("before", "after") if _known(read, when, key)]
    if figures and _known(read, "after", limit):
        figures.append(f"of at most {read['after'][limit]:g} {unit}")
    return f"{what} {', '.join(figures)}" if figures else ""


def _known(read: Mapping[str, Any], when: str, key: str) -> bool:
    """Was a number read then? A device says what it likes, and the results take it as it is."""
    found = read.get(when)
    return isinstance(found, Mapping) and isinstance(found.get(key), int | float)
