"""The metric networks of a run: those that were asked for, or else those that are on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quant.errors import QuantError
from quant.eval.inputs.config import EvaluationConfig
from quant.eval.locations import short_place
from quant.eval.networks.kinds import KINDS, Default, Shape
from quant.eval.storage.files import hash_of

#: Raised when a score is computed in another way: old scores then do not count.
SCORING_VERSION = 1


@dataclass(frozen=True)
class Networks:
    """Loaded networks.

    Attributes:
        loaded: those that single videos are scored through, by the name that metrics know.
        extractors: those whose features distances of sets are taken of, by the name of the sets.
        described, missing: for the results.
    """

    loaded: Mapping[str, Any] = field(default_factory=dict)
    extractors: Mapping[str, Any] = field(default_factory=dict)
    described: tuple[Mapping[str, Any], ...] = ()
    missing: tuple[Mapping[str, str], ...] = ()

    @property
    def key(self) -> str:
        """Says how videos are scored: scores of another key are not of this run.

        It holds the weights' hashes, and not where the networks lie.
        """
        ways = [
            [each["metric"], {key: value for key, value in each["conventions"].items() if key != "source"}]
            for each in self.described
        ]
        return hash_of([SCORING_VERSION, ways])[:16]


def load_networks(config: EvaluationConfig, model: Path, shape: Shape, device: str) -> Networks:
    """Loads what videos of `shape` can be scored with; without a shape, whatever can be loaded.

    A network that the configuration names must load; one that is only taken where it is there is noted as missing,
    with the reason. `model` is the original's folder: networks next to it, in `metric_networks`, are made for what it
    shows, and serve in the place of those that know the real world.
    """
    loaded: dict[str, Any] = {}
    extractors: dict[str, Any] = {}
    described: list[dict[str, Any]] = []
    missing: list[dict[str, str]] = []
    for kind in KINDS:
        named = config.metrics.get(kind.key)
        taken = kind.default(model.parent / "metric_networks") if named is None else Default(named, required=True)
        if taken.why_not:
            missing.append({"metric": kind.key, "why": taken.why_not})
        for spec in taken.specs:
            try:
                found = kind.load(spec, shape, device)
            except QuantError as error:
                if taken.required:
                    raise
                missing.append({"metric": kind.name(spec), "why": str(error)})
                continue
            (extractors if kind.extracts else loaded)[found.name] = found.network
            conventions = {
                key: short_place(value) if key == "source" else value for key, value in found.conventions.items()
            }
            described.append({"metric": found.name, "name": kind.title(spec), "conventions": conventions})
    return Networks(loaded, extractors, tuple(described), tuple(missing))
