"""A run's results as their readers ask for them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from quant.eval.metrics.table import display, leading
from quant.eval.results.schema import read_results


class Overall(NamedTuple):
    """A verdict, the keys of the metrics that have it, and how many metrics were judged."""

    verdict: str
    metrics: tuple[str, ...]
    judged: int


@dataclass(frozen=True)
class Recorded:
    """A run folder and its `results.json`, read once.

    Attributes:
        folder: of the run; frames and videos lie below it.
        body: the whole of `results.json`.
    """

    folder: Path
    body: Mapping[str, Any]

    @property
    def original(self) -> Mapping[str, Any]:
        """The unquantized model."""
        return self.models[0]

    @property
    def candidates(self) -> Sequence[Mapping[str, Any]]:
        """The quantized models, in the run's order."""
        return self.models[1:]

    @property
    def models(self) -> Sequence[Mapping[str, Any]]:
        """The original, then the candidates."""
        models: Sequence[Mapping[str, Any]] = self.body["models"]
        return models

    @property
    def samples(self) -> Sequence[Mapping[str, Any]]:
        """id, prompt, seed and the hash of the initial latents of each."""
        samples: Sequence[Mapping[str, Any]] = self.body["samples"]
        return samples

    @property
    def speed(self) -> Mapping[str, Any] | None:
        """What was timed; None where nothing was."""
        speed: Mapping[str, Any] | None = self.body.get("speed")
        return speed

    @property
    def estimated(self) -> Mapping[str, Any] | None:
        """Times that a model of a GPU predicts; None where none were asked for."""
        return None if self.speed is None else self.speed.get("estimated")

    def place(self, model: Mapping[str, Any]) -> int:
        """The model's number: it gives colour and mark, the same in every picture."""
        return [known["name"] for known in self.models].index(model["name"])


def read(folder: str | Path) -> Recorded:
    """The run in `folder`. Raises QuantError as `read_results` does."""
    return Recorded(Path(folder), read_results(Path(folder)))


def stored_share(model: Mapping[str, Any]) -> float | None:
    """What a model stores, over what the same components take in bf16; None where its folder did not say."""
    stored, whole = model["stored_bytes"], model["bf16_bytes"]
    return stored / whole if stored is not None and whole else None


def sample_score(model: Mapping[str, Any], sample: str, metric: str) -> float | None:
    """A metric of one video; infinite for the PSNR of an identical one, None where it was not taken."""
    scores = model["scores"].get(sample)
    if scores is None or metric not in scores:
        return None
    shown = display(metric)
    value = shown.value(scores[metric])
    if value is None:
        return math.inf if shown.identical else None
    return float(value)


def by_worst_candidate(recorded: Recorded) -> list[tuple[float, Mapping[str, Any], Mapping[str, Any]]]:
    """(figure, sample, the candidate that is worst at it) of the leading metric, the lowest first.

    Samples without a score are left out.
    """
    key = leading().key
    found = []
    for sample in recorded.samples:
        scored = [
            (figure, number)
            for number, model in enumerate(recorded.candidates)
            if (figure := sample_score(model, sample["id"], key)) is not None
        ]
        if scored:
            figure, number = min(scored)
            found.append((figure, sample, recorded.candidates[number]))
    return sorted(found, key=lambda entry: entry[0])


def overall(model: Mapping[str, Any], level: float) -> Overall | None:
    """The verdict at a level; None without any. One that fails decides, else one that has too few samples."""
    found = [entry for entry in model["verdicts"] if entry["level"] == level]
    for verdict in ("fail", "not enough samples", "pass"):
        metrics = tuple(entry["metric"] for entry in found if entry["verdict"] == verdict)
        if metrics:
            return Overall(verdict, metrics, len(found))
    return None


def levels(recorded: Recorded) -> list[float]:
    """The levels that were judged, the coarsest first."""
    return sorted({entry["level"] for model in recorded.candidates for entry in model["verdicts"]}, reverse=True)
