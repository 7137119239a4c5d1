"""Two runs of one original side by side: every candidate's paired scores on the samples that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from quant.errors import QuantError
from quant.eval.metrics.intervals import mean_estimate
from quant.eval.metrics.table import metrics

Results = Mapping[str, Any]
_HEADS = ("", "of", "metric", "samples", "A", "B", "B - A", "95% interval")


def comparison(first: Results, second: Results, first_name: str, second_name: str) -> tuple[list[tuple[str, ...]], str]:
    """A table of candidates by metric, and what it says.

    A candidate is compared with the one of the same name; where the runs have one candidate each, they are compared
    whatever they are called. The interval is a bootstrap over the differences of common samples: hard
    prompts are hard for both, so it is narrower than that of two means.

    Raises:
        QuantError: the originals, their settings or their noise differ, or there is nothing in common.
    """
    for what in ("fingerprint", "settings", "dtype"):
        one, other = first["conditions"][what], second["conditions"][what]
        if one != other:
            raise QuantError(f"{first_name} and {second_name}: the originals differ in {what} ({one}, {other})")
    noise = {sample["id"]: sample["latents_sha256"] for sample in first["samples"]}
    common = sorted(each["id"] for each in second["samples"] if noise.get(each["id"]) == each["latents_sha256"])
    if not common:
        raise QuantError(f"{first_name} and {second_name}: no sample of the same prompt, seed and noise is in both")
    rows: list[tuple[str, ...]] = [_HEADS]
    good = [[model for model in run["models"][1:] if not model.get("failed")] for run in (first, second)]
    for one, other in _pairs(*good):
        label = one["name"] if one["name"] == other["name"] else f"{one['name']} / {other['name']}"
        rows += [(label, _scheme(one, other), *cells) for cells in _metrics(one, other, common)]
    if len(rows) == 1:
        raise QuantError(f"{first_name} and {second_name}: no candidate of the same name was scored in both")
    return rows, f"A  {first_name}\nB  {second_name}\n{len(common)} samples are in both; identical videos have no PSNR"


def _pairs(one: Sequence[Any], other: Sequence[Any]) -> list[tuple[Any, Any]]:
    if len(one) == len(other) == 1:
        return [(one[0], other[0])]
    by_name = {model["name"]: model for model in other}
    return [(model, by_name[model["name"]]) for model in one if model["name"] in by_name]


def _scheme(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    return str(one["scheme"]) if one["scheme"] == other["scheme"] else f"{one['scheme']} / {other['scheme']}"


def _metrics(one: Mapping[str, Any], other: Mapping[str, Any], common: Sequence[str]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for metric in (each.key for each in metrics("paired")):
        pairs = [(one["scores"][key].get(metric), other["scores"][key].get(metric)) for key in common]
        both = [(a, b) for a, b in pairs if a is not None and b is not None]
        if not both:
            continue
        difference = mean_estimate([b - a for a, b in both])
        means = [sum(values) / len(both) for values in zip(*both, strict=True)]
        interval = "" if difference.low is None else f"[{difference.low:+.4g}, {difference.high:+.4g}]"
        cells = (f"{means[0]:.4g}", f"{means[1]:.4g}", f"{means[1] - means[0]:+.4g}", interval)
        found.append((metric, str(len(both)), *cells))
    return found
