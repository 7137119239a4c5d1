"""Candidates against each other on the same samples: those of one run, and of two runs of the same original."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from quant.errors import QuantError
from quant.eval.metrics.base import Display
from quant.eval.metrics.paired import WORDS, Comparison, Outcome, compared, outcomes
from quant.eval.metrics.table import metrics
from quant.eval.results.recorded import sample_score

Results = Mapping[str, Any]
Model = Mapping[str, Any]
Rows = list[tuple[str, ...]]
#: The columns of one run's candidates, and of two runs side by side.
_WITHIN = ("A", "B", "metric", "samples", "B - A", "95% interval", "B better", "B is")
_BETWEEN = ("", "of", "metric", "samples", "A", "B", "B - A", "95% interval", "B better", "B is")
_IDENTICAL = "two identical videos have no PSNR: they are in no mean, and better than any other"


class Pair(NamedTuple):
    """Two candidates by one metric, the second against the first.

    `means` are of the samples where both have a finite score; none where no sample has.
    """

    first: Model
    second: Model
    metric: Display
    means: tuple[float, float] | None
    found: Comparison
    outcome: Outcome


def candidate_pairs(results: Results) -> list[Pair]:
    """Every two candidates of a run by every metric that compares with the original; outcomes are of the whole list."""
    return _compared(list(combinations(_scored(results), 2)), results["samples"])


def within_run(results: Results, name: str) -> tuple[Rows, str]:
    """A table of a run's candidates against each other, and what it says.

    Args:
        name: of the run, for errors.

    Raises:
        QuantError: fewer than two candidates were scored.
    """
    found = candidate_pairs(results)
    if not found:
        raise QuantError(f"{name}: fewer than two candidates were scored by the same metric; name a second run, too")
    rows: Rows = [_WITHIN]
    rows += [(str(pair.first["name"]), str(pair.second["name"]), *_begin(pair), *_end(pair)) for pair in found]
    return rows, _note(found, results["samples"])


def between_runs(first: Results, second: Results, first_name: str, second_name: str) -> tuple[Rows, str]:
    """A table of candidates by metric, and what it says.

    A candidate is compared with the one of the same name; where the runs have one candidate each, they are compared
    whatever they are called.

    Raises:
        QuantError: the originals, their settings or their noise differ, or there is nothing in common.
    """
    for what in ("fingerprint", "settings", "dtype"):
        one, other = first["conditions"][what], second["conditions"][what]
        if one != other:
            raise QuantError(f"{first_name} and {second_name}: the originals differ in {what} ({one}, {other})")
    noise = {sample["id"]: sample["latents_sha256"] for sample in second["samples"]}
    common = [each for each in first["samples"] if noise.get(each["id"]) == each["latents_sha256"]]
    if not common:
        raise QuantError(f"{first_name} and {second_name}: no sample of the same prompt, seed and noise is in both")
    found = _compared(_namesakes(_scored(first), _scored(second)), common)
    if not found:
        raise QuantError(f"{first_name} and {second_name}: no candidate of the same name was scored in both")
    rows: Rows = [_BETWEEN]
    for pair in found:
        label, scheme = (_both(pair.first[what], pair.second[what]) for what in ("name", "scheme"))
        means = ("-", "-") if pair.means is None else tuple(f"{mean:.4g}" for mean in pair.means)
        rows.append((label, scheme, *_begin(pair), *means, *_end(pair)))
    return rows, f"A  {first_name}\nB  {second_name}\n{_note(found, common)}"


def _scored(results: Results) -> list[Model]:
    """The candidates that did not fail."""
    return [model for model in results["models"][1:] if not model.get("failed")]


def _namesakes(one: Sequence[Model], other: Sequence[Model]) -> list[tuple[Model, Model]]:
    if len(one) == len(other) == 1:
        return [(one[0], other[0])]
    by_name = {model["name"]: model for model in other}
    return [(model, by_name[model["name"]]) for model in one if model["name"] in by_name]


def _compared(models: Sequence[tuple[Model, Model]], samples: Sequence[Mapping[str, Any]]) -> list[Pair]:
    found = [
        (first, second, metric, *both)
        for first, second in models
        for metric in metrics("paired")
        if (both := _by_metric(first, second, metric, samples)) is not None
    ]
    decided = outcomes([comparison for *_, comparison in found])
    return [Pair(*each, outcome) for each, outcome in zip(found, decided, strict=True)]


def _by_metric(
    first: Model, second: Model, metric: Display, samples: Sequence[Mapping[str, Any]]
) -> tuple[tuple[float, float] | None, Comparison] | None:
    """The means and the comparison of what both were scored on; None where that is nothing, or identical videos."""
    pairs, alike = [], []
    for sample in samples:
        one, other = (sample_score(model, sample["id"], metric.key) for model in (first, second))
        if one is not None and other is not None:
            pairs.append((one, other))
            alike.append(json.dumps([sample["prompt"], sample.get("inputs")], sort_keys=True))
    if not any(math.isfinite(score) for pair in pairs for score in pair):
        return None
    finite = [pair for pair in pairs if all(map(math.isfinite, pair))]
    means = [math.fsum(scores) / len(finite) for scores in zip(*finite, strict=True)]
    ones, others = zip(*pairs, strict=True)
    found = compared(others, ones, higher=metric.higher, alike=alike)
    return (means[0], means[1]) if means else None, found


def _both(one: object, other: object) -> str:
    return str(one) if one == other else f"{one} / {other}"


def _begin(pair: Pair) -> tuple[str, str]:
    return pair.metric.key, str(pair.found.samples)


def _end(pair: Pair) -> tuple[str, str, str, str]:
    mean = pair.found.difference
    value = "-" if mean.value is None else f"{mean.value:+.4g}"
    bounds = "" if mean.low is None else f"[{mean.low:+.4g}, {mean.high:+.4g}]"
    return value, bounds, f"{pair.found.better} of {pair.found.samples}", pair.outcome


def _note(found: Sequence[Pair], samples: Sequence[Mapping[str, Any]]) -> str:
    lines = [f"{len(samples)} samples; those of one prompt count as one, by their mean difference; {_IDENTICAL}"]
    return "\n".join([*lines, f"{len(found)} comparisons; {WORDS}"])
