"""What the figures rest on: what was measured, what was estimated, networks, prompts, versions and hashes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quant.eval.report.markup import Piece, definitions, escape, note, swatch, table
from quant.eval.report.recorded import FILE_NAME, Recorded
from quant.eval.report.words import number, ordered, set_title, short


def measured_and_estimated(recorded: Recorded) -> Piece:
    """Two lists side by side, drawn from what the run recorded, and what is missing."""
    paired = [m.title for m in ordered(key for model in recorded.models for key in model["summary"])]
    sets = dict.fromkeys(set_title(key) for model in recorded.models for key in model.get("sets") or {})
    count = number(len(recorded.samples), "sample")
    done = [f"{escape(', '.join(paired))}: of each of {count}, on stored 16-bit frames"] if paired else []
    done += [f"{escape(', '.join(sets))}: of the features of all videos together"] if sets else []
    done.append("Stored bytes: of all tensors of the quantized components, scales included")
    guessed = ["95% intervals: by resampling the samples"]
    if recorded.speed is not None:
        text = f"Times: {escape(recorded.speed['label'])}, on {escape(recorded.speed['device']['name'])}"
        done.append(text)
    if recorded.estimated is not None:
        guessed.append(f"Time of a step on {escape(recorded.estimated['gpu'])}: {escape(recorded.estimated['what'])}")
    if any(model.get("step_error") for model in recorded.candidates):
        guessed.append("Difference of latents by step: on 64 fixed entries of the latents")
    if any(_extrapolated(model) for model in recorded.models):
        guessed.append("Set distances of infinitely many samples: extrapolated in 1/N")
    lacking = [f"{escape(entry['metric'])}: {escape(entry['why'])}" for entry in recorded.body.get("missing") or ()]
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
        told = "".join(
            f"<li>{escape(key.replace('_', ' '))}: <span>{_value(value)}</span></li>"
            for key, value in (entry.get("conventions") or {}).items()
        )
        rows.append((escape(entry["metric"]), escape(str(entry["name"])), f'<ul class="pairs">{told}</ul>'))
    return Piece(table(("metric", "network", "conventions"), rows, words=3, label="Metric networks"))


def truncated_prompts(recorded: Recorded) -> Piece:
    """Prompts of which CLIP saw only the beginning."""
    cut = set(recorded.body.get("truncated_prompts") or ())
    prompts = [sample["prompt"] for sample in recorded.samples if sample["id"] in cut]
    if not prompts:
        return Piece(note("No prompt was cut off by a tokenizer."))
    entries = "".join(f"<li>{escape(prompt)}</li>" for prompt in prompts)
    are = "prompt was" if len(cut) == 1 else "prompts were"
    return Piece(
        note(f"{len(cut)} {are} longer than CLIP reads; prompt consistency knows only the beginning.")
        + f"<details><summary>Show {'it' if len(cut) == 1 else 'them'}</summary><ul>{entries}</ul></details>"
    )


def provenance(recorded: Recorded) -> Piece:
    """Command, settings, versions, machine, seeds and hashes: enough to make the run again."""
    body, conditions = recorded.body, recorded.body["conditions"]
    made = body.get("provenance") or {}
    entries = {
        "command": f"<code>{escape(str(made.get('command', '–')))}</code>",
        "made": escape(str(body.get("created", "–"))),
        "original": f"{escape(conditions['model'])}, fingerprint <code>{escape(conditions['fingerprint'])}</code>",
        "settings": _pairs(conditions.get("settings") or {}),
        "computed in": f"{escape(str(conditions['dtype']))} on {escape(str(conditions['device']))}",
        "versions": _pairs(conditions.get("versions") or {}),
        "machine": _pairs(made.get("machine") or {}),
        "frames a second": escape(str(made.get("fps", "–"))),
        "seeds": escape(", ".join(dict.fromkeys(str(sample["seed"]) for sample in recorded.samples))),
        "key of the run": f"<code>{escape(str(body.get('key', '–')))}</code>",
        "results": f"<code>{FILE_NAME}</code>, format {body['format_version']}",
    }
    models = table(
        ("model", "source", "scheme", "fingerprint"),
        [
            (
                f"{swatch(recorded.place(model))}{escape(model['name'])}",
                escape(str(model["source"])),
                escape(model["scheme"]),
                f"<code>{escape(short(model['fingerprint']))}</code>",
            )
            for model in recorded.models
        ],
        words=4,
        label="Models",
    )
    return Piece(definitions(entries) + models + _recipes(recorded) + _samples(recorded))


def _recipes(recorded: Recorded) -> str:
    parts = []
    for model in recorded.candidates:
        recipe = model.get("recipe")
        if recipe:
            text = recipe if isinstance(recipe, str) else _pairs(recipe) if isinstance(recipe, dict) else str(recipe)
            inner = f"<pre>{escape(text)}</pre>" if isinstance(recipe, str) else text
            parts.append(f"<details><summary>Recipe of {escape(model['name'])}</summary>{inner}</details>")
    return "".join(parts)


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
    return (
        f'<section class="card said"><h3>{title}</h3><ul>{"".join(f"<li>{line}</li>" for line in lines)}</ul></section>'
    )


def _pairs(entries: Mapping[str, Any]) -> str:
    if not entries:
        return "–"
    told = "".join(f"<li>{escape(str(key))} <span>{_value(value)}</span></li>" for key, value in entries.items())
    return f'<ul class="pairs">{told}</ul>'


def _value(value: object) -> str:
    text = str(value)
    return f"<code>{escape(text)}</code>" if len(text) >= 32 and text.isalnum() else escape(text)


def _extrapolated(model: Mapping[str, Any]) -> bool:
    return any(
        (entry.get(which) or {}).get("extrapolated") is not None
        for entry in (model.get("sets") or {}).values()
        for which in ("to_original", "to_real")
    )
