"""What the figures rest on: what was measured, what was estimated, networks, prompts, versions and hashes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.eval.drawing.markup import Piece, definitions, escape, note, swatch, table
from quant.eval.drawing.step_error import curves
from quant.eval.metrics.table import ordered, set_title
from quant.eval.results.recorded import Recorded
from quant.eval.results.words import number, short


def measured_and_estimated(recorded: Recorded) -> Piece:
    """Lists side by side, drawn from what the run recorded: what was measured, what was estimated, what is missing."""
    metrics = [shown.title for shown in ordered(key for model in recorded.models for key in model["summary"])]
    sets = dict.fromkeys(set_title(key) for model in recorded.models for key in model.get("sets") or {})
    count = number(len(recorded.samples), "sample")
    done = [f"{escape(', '.join(metrics))}: of each of {count}, on stored 16-bit frames"] if metrics else []
    done += [f"{escape(', '.join(sets))}: of the features of all videos together"] if sets else []
    done.append("Stored bytes: of all tensors of the quantized components, scales included")
    guessed = ["95% intervals: by resampling the samples"]
    if recorded.speed is not None:
        label, device = recorded.speed["label"], recorded.speed["device"]["name"]
        done.append(f"Times: {escape(label)}" + ("" if label.endswith(device) else f", on {escape(device)}"))
    if recorded.estimated is not None:
        guessed.append(f"Time of a step on {escape(recorded.estimated['gpu'])}: {escape(recorded.estimated['what'])}")
    for how in dict.fromkeys(curve.how for curve in curves(recorded)):
        guessed.append(f"Difference of latents by step: {escape(how)}")
    if any(_extrapolated(model) for model in recorded.models):
        guessed.append("Set distances of infinitely many samples: extrapolated in 1/N")
    lacking = [f"{escape(entry['metric'])}: {escape(entry['why'])}" for entry in recorded.body.get("missing") or ()]
    lacking += [
        f"Everything of {escape(model['name'])}: {escape(model['failed'])}"
        for model in recorded.models
        if model.get("failed")
    ]
    if recorded.speed is None:
        lacking.append("Times: nothing was timed")
    columns = (("Measured", done), ("Estimated", guessed), ("Not taken", lacking))
    return Piece(f'<div class="cards">{"".join(_listed(title, lines) for title, lines in columns if lines)}</div>')


def networks(recorded: Recorded) -> Piece:
    """Each metric network with the conventions that its figures depend on."""
    found = recorded.body.get("networks") or ()
    if not found:
        return Piece(note("No metric of this run needs a network."))
    rows = []
    for entry in found:
        pairs = "".join(
            f"<li>{escape(key.replace('_', ' '))}: <span>{_value(value)}</span></li>"
            for key, value in (entry.get("conventions") or {}).items()
        )
        rows.append((escape(entry["metric"]), escape(str(entry["name"])), f'<ul class="pairs">{pairs}</ul>'))
    return Piece(table(("metric", "network", "conventions"), rows, words=3, label="Metric networks"))


def truncated_prompts(recorded: Recorded) -> Piece:
    """Prompts of which CLIP saw only the beginning."""
    cut = set(recorded.body.get("truncated_prompts") or ())
    prompts = [sample["prompt"] for sample in recorded.samples if sample["id"] in cut]
    if not prompts:
        return Piece(note("No prompt was cut off by a tokenizer."))
    entries = "".join(f"<li>{escape(prompt)}</li>" for prompt in prompts)
    longer = f"{number(len(prompts), 'prompt was', 'prompts were')} longer than CLIP reads"
    return Piece(
        note(f"{longer}; prompt consistency knows only the beginning.")
        + f"<details><summary>Show {'it' if len(prompts) == 1 else 'them'}</summary><ul>{entries}</ul></details>"
    )


def provenance(recorded: Recorded) -> Piece:
    """Command, settings, versions, machine, seeds and hashes: enough to make the run again."""
    body, conditions = recorded.body, recorded.body["conditions"]
    made = body.get("provenance") or {}
    where = " ".join(str(conditions[key]) for key in ("device", "gpu") if conditions.get(key))
    entries = {
        "command": f"<code>{escape(str(made.get('command', '–')))}</code>",
        "made": escape(str(body.get("created", "–"))),
        "original": f"{escape(conditions['model'])}, fingerprint <code>{escape(conditions['fingerprint'])}</code>",
        "settings": _pairs(conditions.get("settings") or {}),
        "computed in": f"{escape(conditions['dtype'])} on {escape(where)}",
        "versions": _pairs(conditions.get("versions") or {}),
        "machine": _pairs(made.get("machine") or {}),
        "frames a second": escape(str(made.get("fps", "–"))),
        "seeds": escape(", ".join(dict.fromkeys(str(sample["seed"]) for sample in recorded.samples))),
        "key of the run": f"<code>{escape(str(body.get('key', '–')))}</code>",
        "results": f"<code>results.json</code>, format {body['format_version']}",
    }
    models = table(
        ("model", "source", "scheme", "recipe", "calibrated on", "fingerprint"),
        [
            (
                f"{swatch(recorded.place(model))}{escape(model['name'])}",
                escape(str(model["source"])),
                escape(model["scheme"] or "–"),
                escape(model["recipe"] or "–"),
                _calibrated(model),
                f"<code>{escape(short(model['fingerprint']))}</code>",
            )
            for model in recorded.models
        ],
        words=6,
        label="Models",
    )
    return Piece(definitions(entries) + models + _samples(recorded))


def _calibrated(model: Mapping[str, Any]) -> str:
    count = model.get("calibration_prompts")
    return "–" if count is None else number(count, "prompt")


def _samples(recorded: Recorded) -> str:
    rows = [
        (
            f'<span class="prompt">{escape(sample["prompt"])}</span>',
            str(sample["seed"]),
            f"<code>{escape(sample['id'])}</code>",
            f"<code>{escape(short(sample['latents_sha256']))}</code>",
        )
        for sample in recorded.samples
    ]
    shown = table(("prompt", "seed", "id", "initial latents, SHA-256"), rows, label="Samples")
    return f"<details><summary>All {number(len(rows), 'sample')} with seeds and hashes</summary>{shown}</details>"


def _listed(title: str, lines: list[str]) -> str:
    items = "".join(f"<li>{line}</li>" for line in lines)
    return f'<section class="card facts"><h3>{title}</h3><ul>{items}</ul></section>'


def _pairs(entries: Mapping[str, Any]) -> str:
    if not entries:
        return "–"
    inner = "".join(f"<li>{escape(str(key))} <span>{_value(value)}</span></li>" for key, value in entries.items())
    return f'<ul class="pairs">{inner}</ul>'


def _value(value: object) -> str:
    text = str(value)
    return f"<code>{escape(text)}</code>" if len(text) >= 32 and text.isalnum() else escape(text)


def _extrapolated(model: Mapping[str, Any]) -> bool:
    return any(
        (entry.get(which) or {}).get("extrapolated") is not None
        for entry in (model.get("sets") or {}).values()
        for which in ("to_original", "to_real")
    )
