"""The model card of a checkpoint: README.md with front matter, of what a run measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import quant
from quant.errors import QuantError
from quant.eval.locations import short_place
from quant.eval.metrics.table import ordered, set_title
from quant.eval.report.card_files import base_license, loading_code, sources
from quant.eval.results import speedup
from quant.eval.results.recorded import Recorded, levels, stored_share
from quant.eval.results.words import (
    also_identical,
    duration,
    interval,
    level_text,
    mean,
    number,
    share,
    size,
)
from quant.eval.tables import Table, as_markdown, code, plain
from quant.files.places import CARD_MARK


def model_card(recorded: Recorded, checkpoint: Path, candidate: str | None = None) -> str:
    """The text of README.md.

    Args:
        recorded: a run with the checkpoint as a candidate.
        checkpoint: its folder.
        candidate: its name in the run; by default the one that was made from `checkpoint`.

    Raises:
        QuantError: the run has no such candidate, or `checkpoint` is none.
    """
    places = sources(recorded.folder)
    model = find_candidate(recorded, places, checkpoint, candidate)
    found = quant.inspect(checkpoint)
    base = places[recorded.original["name"]]
    schemes = sorted({layer.scheme for part in found.components for layer in part.layers if layer.scheme is not None})
    title = checkpoint.resolve().name
    parts = [
        _front_matter(base, schemes),
        CARD_MARK,
        f"# {plain(title)}",
        f"{code(short_place(base))} in {', '.join(map(code, schemes))}{_sizes(model)}.",
        "## Load it",
        f"```python\n{loading_code(checkpoint, base)}```",
        "## Quality",
        *_quality(recorded, model),
        "## Speed",
        _speed(recorded, model),
        "## Layers",
        _layers(found.components),
        "## Limits",
        _limits(recorded, model),
    ]
    return "\n\n".join(parts) + "\n"


def find_candidate(
    recorded: Recorded, places: Mapping[str, str], checkpoint: Path, name: str | None
) -> Mapping[str, Any]:
    """The run's candidate that the checkpoint is; `places` are the models' folders by name."""
    names = ", ".join(model["name"] for model in recorded.candidates) or "none"
    if name is not None:
        found = [model for model in recorded.candidates if model["name"] == name]
        if not found:
            raise QuantError(f"{recorded.folder}: has no candidate {name!r}; it has {names}")
        return found[0]
    place = checkpoint.resolve()
    found = [each for each in recorded.candidates if Path(places.get(each["name"], "")).resolve() == place]
    if len(found) != 1:
        many = "no candidate" if not found else "several candidates"
        raise QuantError(f"{recorded.folder}: {many} made from {checkpoint}; name one with --candidate: {names}")
    return found[0]


def _front_matter(base: str, schemes: list[str]) -> str:
    import yaml

    body: dict[str, Any] = {}
    if (license_name := base_license(base)) is not None:
        body["license"] = license_name
    # A folder of someone's disk is no name that a hub knows.
    if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", base) and not Path(base).exists():
        body["base_model"] = base
        body["base_model_relation"] = "quantized"
    body |= {"library_name": "diffusers", "pipeline_tag": "text-to-video"}
    body["tags"] = ["quantized", "quant-video", *(scheme.lower() for scheme in schemes)]
    return f"---\n{yaml.safe_dump(body, sort_keys=False)}---"


def _sizes(model: Mapping[str, Any]) -> str:
    part = stored_share(model)
    if part is None:
        return ""
    return f": {size(model['stored_bytes'])} instead of {size(model['bf16_bytes'])} in bf16, {share(part)}"


def _quality(recorded: Recorded, model: Mapping[str, Any]) -> list[str]:
    if model.get("failed"):
        return [f"It failed in this run, and nothing was measured: {plain(model['failed'])}."]
    judged = levels(recorded)
    rows = []
    for each in ordered(model["summary"]):
        summary, own = model["summary"][each.key], recorded.original["summary"].get(each.key)
        verdicts = [
            next((v["verdict"] for v in model["verdicts"] if (v["metric"], v["level"]) == (each.key, level)), "")
            for level in judged
        ]
        value = " ".join(text for text in (mean(summary, each), also_identical(summary)) if text)
        original = "" if own is None else mean(own, each)
        rows.append((each.title, value, interval(summary, each.digits), original, *verdicts))
    for key, entry in (model.get("sets") or {}).items():
        distance = entry.get("to_original")
        if distance is not None:
            value = f"{distance['value']:.3g}" if distance["enough"] else _few(distance)
            bounds = interval(distance, 2) if distance["enough"] else ""
            rows.append((f"{plain(set_title(key))} to the original’s videos", value, bounds, "", *("" for _ in judged)))
    heads = ("metric", "value", "95% interval", "original", *(f"within {level_text(level)}" for level in judged))
    settings = ", ".join(f"{key} {plain(str(value))}" for key, value in recorded.body["conditions"]["settings"].items())
    about = (
        f"Against the unquantized model on {number(len(recorded.samples), 'sample')}: the same prompts, seeds and "
        f"initial latents ({settings}). Verdicts say whether the whole interval of the loss is within the level."
    )
    return [about, _markdown(heads, rows)]


def _speed(recorded: Recorded, model: Mapping[str, Any]) -> str:
    speed = recorded.speed
    rows = []
    for stage, title in speedup.STAGES.items():
        seconds, times = (take(recorded, model, stage) for take in (speedup.seconds, speedup.measured))
        if speed is not None and seconds is not None and times is not None:
            label = speed["label"]
            rows.append((plain(speed["device"]["name"]), title, duration(seconds), f"{times:.2f}×", plain(label)))
    predicted = speedup.estimated(recorded, model)
    if recorded.estimated is not None and predicted is not None:
        seconds = recorded.estimated["models"][model["name"]]["step_s"]
        label = plain(f"estimated: {recorded.estimated['what']}")
        gpu = plain(recorded.estimated["gpu"])
        rows.append((gpu, "one denoising step", duration(seconds), f"{predicted:.2f}×", label))
    if not rows:
        return "Nothing was timed."
    return _markdown(("device", "stage", "time", "speedup", "what it is"), rows, words=2)


def _layers(components: Any) -> str:
    """The same layer of all blocks is one row."""
    groups: dict[tuple[str, str, str, str], list[Any]] = {}
    for part in components:
        for layer in part.layers:
            name = re.sub(r"\.\d+\.", ".*.", layer.name, count=1)
            shape = "×".join(map(str, layer.shape))
            key = (f"{part.name}: {name}" if len(components) > 1 else name, shape, layer.scheme or "kept", layer.reason)
            groups.setdefault(key, []).append(layer)
    rows = []
    for (name, shape, scheme, reason), members in groups.items():
        errors = [layer.weight_error for layer in members if layer.weight_error is not None]
        error = f"{sum(errors) / len(errors):.2%}" if errors else ""
        bits = f"{sum(layer.bits_per_weight for layer in members) / len(members):.2f}"
        rows.append((code(name), shape, plain(scheme), str(len(members)), bits, error, plain(reason)))
    return _markdown(("layer", "shape", "scheme", "layers", "bits/weight", "weight error", "why kept"), rows, words=3)


def _limits(recorded: Recorded, model: Mapping[str, Any]) -> str:
    limits = [f"Measured on {number(len(recorded.samples), 'sample')} of one setting; other prompts may differ."]
    unsure = {level_text(v["level"]) for v in model["verdicts"] if v["verdict"] == "not enough samples"}
    if unsure:
        limits.append(f"Too few samples for some verdicts within {' and '.join(sorted(unsure))}.")
    for key, entry in (model.get("sets") or {}).items():
        if entry.get("to_original") and not entry["to_original"]["enough"]:
            limits.append(f"{plain(set_title(key))}: {_few(entry['to_original'])}.")
    limits += [
        f"{plain(entry['metric'])} was not taken: {plain(entry['why'])}."
        for entry in recorded.body.get("missing") or ()
    ]
    if recorded.speed is None:
        limits.append("Speed was not measured.")
    elif speedup.is_reference(recorded.speed):
        limits.append("Times were taken of reference arithmetic on a CPU; they say nothing of a GPU’s.")
    limits.append("Other readers of safetensors need `quant-video` where the configuration says `quant_method: quant`.")
    return "\n".join(f"- {line}" for line in limits)


def _few(distance: Mapping[str, Any]) -> str:
    return f"too few samples: N={distance['n']}, D={distance['dimension']}"


def _markdown(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], words: int = 1) -> str:
    return as_markdown(Table(heads, tuple(rows), words))
